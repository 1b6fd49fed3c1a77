//! Checks a configuration and names what is out of bounds.

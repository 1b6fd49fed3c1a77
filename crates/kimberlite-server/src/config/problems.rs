//! What is wrong with a configuration: all of it at once, so that nobody mends one mistake only to
//! hear of the next.

use kimberlite_wire::Error;

/// The mistakes found so far, each a sentence of its own.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<String>,
    /// Whether a token was among them: then it is no mistake of its own that there is none.
    pub(crate) about_tokens: bool,
}

impl Problems {
    /// Notes a mistake.
    pub(crate) fn add(&mut self, problem: impl Into<String>) {
        self.list.push(problem.into());
    }

    /// Notes what a check found, if anything, and gives the rest.
    pub(crate) fn note<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.add(error.detail)).ok()
    }

    /// INVALID_ARGUMENT with every mistake: one on its line, several on a line each.
    pub(crate) fn into_result(self) -> Result<(), Error> {
        match self.list.as_slice() {
            [] => Ok(()),
            [one] => Err(Error::invalid(one)),
            several => {
                let list: String =
                    several.iter().map(|problem| format!("\n  - {problem}")).collect();
                let count = several.len();
                Err(Error::invalid(format!("there are {count} problems:{list}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One problem is told as it is, several are counted and listed.
    #[test]
    fn lists_every_problem() {
        assert_eq!(Problems::default().into_result(), Ok(()));
        let mut problems = Problems::default();
        problems.add("a is 1");
        assert_eq!(problems.note(Ok(7)), Some(7));
        problems.add("b is 2");
        assert_eq!(problems.note::<()>(Err(Error::invalid("c is 3"))), None);
        let detail = problems.into_result().unwrap_err().detail;
        assert_eq!(detail, "there are 3 problems:\n  - a is 1\n  - b is 2\n  - c is 3");
    }
}

//! The builder of a client's options.

use std::ffi::c_char;
use std::sync::{Arc, Mutex, PoisonError};

use kimberlite_client::Config;
use kimberlite_wire::Error;

use crate::arguments::{Out, text};
use crate::boundary::{boundary, quietly};
use crate::detail::{KmbDetail, KmbError};
use crate::handle::Table;

/// What a client is told when it connects: addresses, tenant, token, options.
///
/// Ownership: made by kmb_options_new, freed by kmb_options_free. Threads: safe from every thread.
pub struct KmbOptions {
    _private: [u8; 0],
}

static OPTIONS: Table<Mutex<Config>> = Table::new(2, "KmbOptions");

/// The configuration that a builder holds by now.
pub(crate) fn config(options: *const KmbOptions) -> Result<Config, Error> {
    let config = OPTIONS.get("options", options)?;
    let config = config.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(config.clone())
}

fn change<R>(
    options: *mut KmbOptions,
    change: impl FnOnce(&mut Config) -> Result<R, Error>,
) -> Result<R, Error> {
    let config = OPTIONS.get("options", options)?;
    let mut config = config.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut config)
}

/// Frees every builder.
pub(crate) fn free_all() {
    drop(OPTIONS.drain());
}

/// Makes an options builder with every default of the contract: no address, tenant 1, no token.
///
/// options_out: receives the builder; the caller frees it with kmb_options_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_options_new(
    options_out: *mut *mut KmbOptions,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let out = Out::new("options_out", options_out)?;
        out.put(OPTIONS.insert(Arc::new(Mutex::new(Config::new(None::<String>))))?);
        Ok(())
    })
}

/// Adds an address: `host:port`, `tls://host:port`, `embedded:<folder>`, `memory:` (private to the
/// client) or `memory:<name>` (shared within the process). Several addresses are members of one
/// database; embedded ones stand alone.
///
/// address: UTF-8 of address_len bytes, copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_options_add_address(
    options: *mut KmbOptions,
    address: *const c_char,
    address_len: usize,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let address = text("address", address, address_len)?;
        change(options, |config| {
            config.addresses.push(address.to_string());
            Ok(())
        })
    })
}

/// Sets the tenant; 1 where it is never set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_options_set_tenant(
    options: *mut KmbOptions,
    tenant_id: u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        change(options, |config| {
            config.tenant_id = tenant_id;
            Ok(())
        })
    })
}

/// Sets the token.
///
/// token: UTF-8 of token_len bytes, copied; a length of 0 means none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_options_set_auth_token(
    options: *mut KmbOptions,
    token: *const c_char,
    token_len: usize,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let token = text("token", token, token_len)?;
        change(options, |config| {
            config.auth_token = (!token.is_empty()).then(|| token.to_string());
            Ok(())
        })
    })
}

/// Sets a number by the option's name in the contract, such as `timeout_ms`. INVALID_ARGUMENT names
/// an unknown option or the bounds.
///
/// name: UTF-8 of name_len bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_options_set_u64(
    options: *mut KmbOptions,
    name: *const c_char,
    name_len: usize,
    value: u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let name = text("name", name, name_len)?;
        change(options, |config| config.options.set_u64(name, value))
    })
}

/// Sets a text by the option's name in the contract, such as `tls_ca_file`. INVALID_ARGUMENT names
/// an unknown option.
///
/// name, value: UTF-8 of name_len and value_len bytes, copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_options_set_string(
    options: *mut KmbOptions,
    name: *const c_char,
    name_len: usize,
    value: *const c_char,
    value_len: usize,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let name = text("name", name, name_len)?;
        let value = text("value", value, value_len)?;
        change(options, |config| config.options.set_string(name, value))
    })
}

/// Frees a builder; clients made from it live on. NULL and a second call are harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_options_free(options: *mut KmbOptions) {
    quietly(|| {
        if !options.is_null() {
            drop(OPTIONS.remove("options", options));
        }
    });
}

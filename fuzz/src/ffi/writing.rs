//! Connecting, options, streams, appends, tenants.

use kimberlite_ffi::*;

use super::arguments::Slot;
use super::{STREAM, World};
use crate::input::Input;

/// Addresses that reach neither a network nor a disk.
const ADDRESSES: &[&str] = &["memory:", "memory:shared", "memory:other", "nonsense:", "tls://", ""];
const NAMES: &[&str] = &["orders", "notes", "ORDERS", "_audit", "", "sqlite_x", "a\0b", "ä"];
const OPTIONS: &[&str] = &[
    "timeout_ms",
    "connect_timeout_ms",
    "pool_connections",
    "max_response_bytes",
    "subscription_buffer_bytes",
    "keepalive_ms",
    "client_name",
    "tls_server_name",
    "nonsense",
];

impl World {
    /// Connecting, closing, and what a client is told when it connects.
    pub(super) fn connecting(&mut self, choice: usize, input: &mut Input<'_>) {
        match choice {
            0 if self.clients.len() < 4 => self.connect_plainly(input),
            0 | 1 => {
                let mut slot = Slot::new(input);
                let error =
                    self.called(|detail| unsafe { kmb_options_new(slot.pointer(), detail) });
                self.options.extend(slot.take(error));
            }
            2 => self.set_option(input),
            3 if self.clients.len() < 4 => {
                let options = self.handle(&self.options, input);
                let mut slot = Slot::new(input);
                let error =
                    self.called(|detail| unsafe { kmb_connect(options, slot.pointer(), detail) });
                self.clients.extend(slot.take(error));
            }
            4 => {
                let client = self.handle(&self.clients, input);
                let timeout_ms = u64::from(input.u8());
                self.called(|detail| unsafe { kmb_client_close(client, timeout_ms, detail) });
            }
            _ => {
                let options = self.handle(&self.options, input);
                unsafe { kmb_options_free(options) };
            }
        }
    }

    fn connect_plainly(&mut self, input: &mut Input<'_>) {
        let known = ADDRESSES[input.below(ADDRESSES.len())];
        let count = usize::from(input.u8() % 4);
        let texts: Vec<_> =
            (0..count).map(|_| self.arena.c_text(&mut Input::new(&[0]), &[known])).collect();
        let token = self.arena.c_text(input, &["", "secret"]);
        let tenant_id = input.number();
        let mut slot: Slot<KmbError> = Slot::new(input);
        let addresses = if input.u8() > 250 { std::ptr::null() } else { texts.as_ptr() };
        let client =
            unsafe { kmb_client_connect(addresses, count, tenant_id, token, slot.pointer()) };
        if let Some(error) = slot.take(KMB_OK) {
            assert_eq!(client.is_null(), error != KMB_OK, "a client or an error");
            self.called_plainly(error);
        }
        if !client.is_null() {
            self.clients.push(client);
        }
    }

    fn set_option(&mut self, input: &mut Input<'_>) {
        let options = self.handle(&self.options, input);
        let (name, name_len) = self.arena.text(input, OPTIONS);
        let number = input.number();
        let kind = input.below(5);
        // An address is one of ours: the fuzzer is not to choose hosts or folders.
        let address = ADDRESSES[input.below(ADDRESSES.len())];
        let (value, value_len) = self.arena.text(input, &["text", ""]);
        self.called(|detail| unsafe {
            match kind {
                0 => kmb_options_set_u64(options, name, name_len, number, detail),
                1 => kmb_options_set_string(options, name, name_len, value, value_len, detail),
                2 => kmb_options_set_tenant(options, number, detail),
                3 => kmb_options_set_auth_token(options, value, value_len, detail),
                _ => {
                    kmb_options_add_address(options, address.as_ptr().cast(), address.len(), detail)
                }
            }
        });
    }

    /// Streams, appends, tenants.
    pub(super) fn writing(&mut self, choice: usize, input: &mut Input<'_>) {
        let client = self.handle(&self.clients, input);
        match choice {
            0 => {
                let name = self.arena.c_text(input, NAMES);
                let (class, mut slot) = (input.u8() % 5, Slot::<u64>::new(input));
                let error =
                    unsafe { kmb_client_create_stream(client, name, class, slot.pointer()) };
                self.called_plainly(error);
                slot.take(error);
            }
            1 => {
                let (name, name_len) = self.arena.text(input, NAMES);
                let (class, call) = (input.u8() % 5, self.arena.call(input));
                let mut slot = Slot::<u64>::new(input);
                let error = self.called(|detail| unsafe {
                    let out = slot.pointer();
                    kmb_create_stream(client, name, name_len, class, call, out, detail)
                });
                slot.take(error);
            }
            2 => self.append_plainly(client, input),
            3 | 4 => self.append(client, choice == 4, input),
            5 => {
                let (call, mut slot) = (self.arena.call(input), Slot::<u64>::new(input));
                let error = self.called(|detail| unsafe {
                    kmb_open_producer(client, call, slot.pointer(), detail)
                });
                self.keys.extend(slot.take(error).map(|producer_id| (producer_id, 0)));
            }
            6 => {
                let (tenant_id, call) = (u64::from(input.u8() % 6), self.arena.call(input));
                let mut slot = Slot::<bool>::new(input);
                let error = self.called(|detail| unsafe {
                    kmb_create_tenant(client, tenant_id, call, slot.pointer(), detail)
                });
                slot.take(error);
            }
            _ => {
                let (tenant_id, call) = (u64::from(input.u8() % 6), self.arena.call(input));
                self.called(|detail| unsafe { kmb_delete_tenant(client, tenant_id, call, detail) });
            }
        }
    }

    fn append_plainly(&mut self, client: *mut KmbClient, input: &mut Input<'_>) {
        let count = usize::from(input.u8() % 5);
        let (events, mut lens): (Vec<*const u8>, Vec<usize>) =
            (0..count).map(|_| self.arena.data(input)).unzip();
        let shape = input.u8();
        if shape > 250 {
            lens.iter_mut().for_each(|len| *len = usize::MAX);
        }
        let (stream_id, expected) = (stream_id(input), expected(input));
        let mut slot = Slot::<u64>::new(input);
        let (events, lens, count) = match shape {
            240..=242 => (std::ptr::null(), lens.as_ptr(), count),
            243..=245 => (events.as_ptr(), std::ptr::null(), count),
            246..=248 => (events.as_ptr(), lens.as_ptr(), usize::MAX),
            _ => (events.as_ptr(), lens.as_ptr(), count),
        };
        let error = unsafe {
            kmb_client_append(client, stream_id, expected, events, lens, count, slot.pointer())
        };
        self.called_plainly(error);
        slot.take(error);
    }

    fn append(&mut self, client: *mut KmbClient, with_key: bool, input: &mut Input<'_>) {
        let (data, data_len) = self.arena.data(input);
        let (lens, count) = self.arena.lens(input, data_len);
        let (stream, expected, call) = (stream_id(input), expected(input), self.arena.call(input));
        let (producer, sequence) = self.key(input);
        let mut slot = Slot::<KmbAppended>::new(input);
        let error = self.called(|detail| unsafe {
            let out = slot.pointer();
            if with_key {
                kmb_append_with_key(
                    client, producer, sequence, stream, expected, data, data_len, lens, count,
                    call, out, detail,
                )
            } else {
                kmb_append(client, stream, expected, data, data_len, lens, count, call, out, detail)
            }
        });
        if let Some(appended) = slot.take(error) {
            assert_eq!(appended.count as usize, count, "another number of events");
        }
    }

    /// A key that exists, or numbers.
    pub(super) fn key(&self, input: &mut Input<'_>) -> (u64, u64) {
        let choice = input.u8();
        match self.keys.get(usize::from(choice) % self.keys.len().max(1)) {
            Some((producer, sequence)) if choice < 200 => (*producer, *sequence),
            _ => (input.number(), input.number()),
        }
    }
}

/// A stream that exists, mostly.
pub(super) fn stream_id(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        0..=199 => STREAM,
        _ => input.number(),
    }
}

/// An offset to append at.
pub(super) fn expected(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        0..=199 => KMB_ANY_OFFSET,
        _ => input.number(),
    }
}

//! Reads, queries, verification, lists.

use kimberlite_ffi::*;

use super::arguments::Slot;
use super::writing::{expected, stream_id};
use super::{World, results};
use crate::input::Input;

const STATEMENTS: &[&str] = &[
    "SELECT id, data, text, timestamp FROM orders",
    "SELECT ?, ?2, NULL, 1.5, x'00ff'",
    "SELECT count(*) AS n FROM orders WHERE id > ?",
    "SELECT * FROM _streams",
    "SELECT * FROM _audit",
    "SELEC",
    "DELETE FROM orders",
    "SELECT 1 WHERE 0",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 3000) SELECT i, hex(i) \
     FROM n",
];

impl World {
    pub(super) fn asking(&mut self, choice: usize, input: &mut Input<'_>) {
        let client = self.handle(&self.clients, input);
        match choice {
            0 | 1 => self.read_page(client, input),
            2 => self.read_plainly(client, input),
            3 => self.read_into(client, input),
            4 => self.blocks(client, input),
            5 | 6 => self.query(client, input),
            7 => self.query_plainly(client, input),
            8 => {
                let (stream, call) = (stream_id(input), self.arena.call(input));
                let mut slot = Slot::<KmbVerification>::new(input);
                let error = self.called(|detail| unsafe {
                    kmb_verify(client, stream, call, slot.pointer(), detail)
                });
                let found = slot.take(error);
                assert!(found.is_none_or(|found| found.valid == 1), "a chain in memory breaks");
            }
            9 => self.list(client, input),
            _ => self.hashes(input),
        }
    }

    fn read_page(&mut self, client: *mut KmbClient, input: &mut Input<'_>) {
        let (stream, from) = (stream_id(input), u64::from(input.u8() % 4));
        let (max_events, max_bytes) = (input.number(), input.number());
        let (call, mut slot) = (self.arena.call(input), Slot::new(input));
        let error = self.called(|detail| unsafe {
            let out = slot.pointer();
            kmb_read_page(client, stream, from, max_events, max_bytes, call, out, detail)
        });
        self.pages.extend(slot.take(error));
    }

    fn read_plainly(&mut self, client: *mut KmbClient, input: &mut Input<'_>) {
        let (stream, from, max) = (stream_id(input), input.number(), input.number() as usize);
        let mut slot = Slot::<*mut KmbReadResult>::new(input);
        let error = unsafe { kmb_client_read(client, stream, from, max, slot.pointer()) };
        self.called_plainly(error);
        if let Some(result) = slot.take(error) {
            unsafe {
                for index in 0..(*result).event_count {
                    let event = &*(*result).events.add(index);
                    assert_eq!(event.offset, from + index as u64, "events have gaps");
                    results::check_bytes(event.data, event.data_len);
                }
                kmb_read_result_free(result);
            }
        }
    }

    fn read_into(&mut self, client: *mut KmbClient, input: &mut Input<'_>) {
        let (stream, from, max) = (stream_id(input), u64::from(input.u8() % 4), input.number());
        let call = self.arena.call(input);
        let mut buffer = vec![0u8; usize::from(input.u16()) % 2000];
        let place = usize::from(input.u8()) % (buffer.len() + 1);
        let buffer = &mut buffer[place..];
        let (data, len) = (buffer.as_mut_ptr(), buffer.len());
        let data = if input.u8() > 250 { std::ptr::null_mut() } else { data };
        let mut slot = Slot::<KmbReadInto>::new(input);
        let error = self.called(|detail| unsafe {
            kmb_read_into(client, stream, from, max, call, data, len, slot.pointer(), detail)
        });
        if let Some(read) = slot.take(error) {
            let needed = read.data_len + 12 * u64::from(read.count);
            assert!(needed <= len as u64 + 8 || read.count == 0, "more than the buffer holds");
        }
    }

    fn blocks(&mut self, client: *mut KmbClient, input: &mut Input<'_>) {
        let (stream, from) = (stream_id(input), u64::from(input.u8() % 4));
        let (max_events, max_bytes) = (input.number(), input.number());
        let (call, mut slot) = (self.arena.call(input), Slot::<*mut KmbBlocks>::new(input));
        let error = self.called(|detail| unsafe {
            let out = slot.pointer();
            kmb_read_blocks(client, stream, from, max_events, max_bytes, call, out, detail)
        });
        let Some(blocks) = slot.take(error) else { return };
        let (mut head, mut next_offset) = ([0u8; 32], u64::MAX);
        let (data, len) = unsafe { ((*blocks).data, (*blocks).data_len) };
        unsafe { results::check_bytes(data, len) };
        let flip = input.u8();
        let mut copy = if len == 0 {
            Vec::new()
        } else {
            unsafe { std::slice::from_raw_parts(data, len) }.to_vec()
        };
        if let Some(byte) = copy.get_mut(usize::from(flip) * 3) {
            *byte ^= flip;
        }
        self.called_with_bytes(|detail| unsafe {
            kmb_verify_blocks(
                copy.as_ptr(),
                copy.len(),
                head.as_mut_ptr(),
                &raw mut next_offset,
                detail,
            )
        });
        unsafe { kmb_blocks_free(blocks) };
    }

    fn query(&mut self, client: *mut KmbClient, input: &mut Input<'_>) {
        let (sql, sql_len) = self.arena.text(input, STATEMENTS);
        let (params, count) = self.arena.params(input);
        let (at_kind, at) = (input.u8() % 5, input.number());
        let (at_kind, at) = if at_kind > 2 { (0, 0) } else { (at_kind, at) };
        let (call, mut slot) = (self.arena.call(input), Slot::new(input));
        let error = self.called(|detail| unsafe {
            let out = slot.pointer();
            kmb_query(client, sql, sql_len, params, count, at_kind, at, call, out, detail)
        });
        self.results.extend(slot.take(error));
    }

    fn query_plainly(&mut self, client: *mut KmbClient, input: &mut Input<'_>) {
        let sql = self.arena.c_text(input, STATEMENTS);
        let (params, count) = self.arena.params(input);
        let (kind, at) = (input.below(3), input.number());
        let mut slot = Slot::new(input);
        let out = slot.pointer();
        let error = unsafe {
            match kind {
                0 => kmb_client_query(client, sql, params, count, out),
                1 => kmb_client_query_at(client, sql, params, count, at, out),
                _ => kmb_client_query_at_timestamp(client, sql, params, count, at, out),
            }
        };
        self.called_plainly(error);
        self.results.extend(slot.take(error));
    }

    fn list(&mut self, client: *mut KmbClient, input: &mut Input<'_>) {
        let (kind, stream, call) = (input.below(4), stream_id(input), self.arena.call(input));
        let (name, name_len) = self.arena.text(input, &["orders", "absent"]);
        if kind == 3 {
            let mut slot = Slot::<*mut KmbTenantList>::new(input);
            let error = self
                .called(|detail| unsafe { kmb_list_tenants(client, call, slot.pointer(), detail) });
            if let Some(list) = slot.take(error) {
                unsafe {
                    results::check_bytes((*list).tenant_ids.cast(), (*list).count * 8);
                    kmb_tenant_list_free(list);
                }
            }
            return;
        }
        let mut slot = Slot::<*mut KmbStreamList>::new(input);
        let error = self.called(|detail| unsafe {
            match kind {
                0 => kmb_list_streams(client, call, slot.pointer(), detail),
                1 => kmb_stream_info(client, stream, call, slot.pointer(), detail),
                _ => kmb_stream_by_name(client, name, name_len, call, slot.pointer(), detail),
            }
        });
        if let Some(list) = slot.take(error) {
            unsafe { results::free_streams(list) };
        }
    }

    /// Functions that need no client.
    fn hashes(&mut self, input: &mut Input<'_>) {
        let (name, name_len) = self.arena.text(input, &["orders"]);
        let (tenant, stream, class) = (input.number(), input.number(), input.u8() % 4);
        let mut head = [0xa5u8; 32];
        let error = self.called(|detail| unsafe {
            kmb_genesis_hash(tenant, stream, name, name_len, class, head.as_mut_ptr(), detail)
        });
        assert!(error == KMB_OK || head == [0xa5; 32], "an output is written in spite of an error");
        let (blocks, len) = self.arena.data(input);
        let mut next_offset = expected(input);
        // An absurd length of blocks is one that a caller could really have: not for this function.
        let len = if len > 1 << 20 { 0 } else { len };
        self.called_with_bytes(|detail| unsafe {
            kmb_verify_blocks(blocks, len, head.as_mut_ptr(), &raw mut next_offset, detail)
        });
    }
}

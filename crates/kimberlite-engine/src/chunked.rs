//! A list that only grows at its end and never moves what it holds: growing costs the commit thread
//! the same however long the list is.

const CHUNK: usize = 1024;

/// A list in chunks of 1,024 elements; the last one grows as a vector does.
#[derive(Debug)]
pub(crate) struct Chunked<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T: Copy> Chunked<T> {
    pub(crate) const fn new() -> Chunked<T> {
        Chunked { chunks: Vec::new(), len: 0 }
    }

    pub(crate) fn push(&mut self, element: T) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(element),
            _ => self.chunks.push(vec![element]),
        }
        self.len += 1;
    }

    pub(crate) fn get(&self, at: usize) -> Option<T> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK).copied()
    }

    pub(crate) fn last(&self) -> Option<T> {
        self.chunks.last()?.last().copied()
    }

    /// How many of the first elements fulfil the condition, which holds for a prefix.
    pub(crate) fn partition_point(&self, mut holds: impl FnMut(&T) -> bool) -> usize {
        let full = self.chunks.partition_point(|chunk| chunk.last().is_some_and(&mut holds));
        let within = self.chunks.get(full).map_or(0, |chunk| chunk.partition_point(holds));
        // Where every chunk holds throughout, the last may be shorter than the others.
        (full * CHUNK + within).min(self.len)
    }

    /// The elements from `start` on.
    pub(crate) fn iter_from(&self, start: usize) -> impl Iterator<Item = T> + '_ {
        let chunks = self.chunks.get(start / CHUNK..).unwrap_or_default();
        chunks.iter().flatten().skip(start % CHUNK).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements keep their places across chunks, and searching agrees with a plain vector.
    #[test]
    fn grows_and_searches_like_a_vector() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let mut list = Chunked::new();
            let plain: Vec<usize> = (0..len).map(|i| i / 3).collect();
            plain.iter().for_each(|element| list.push(*element));
            assert_eq!(list.len, len);
            assert_eq!(list.last(), plain.last().copied());
            assert_eq!(list.get(len), None);
            for bound in [0, 1, len / 6, len / 3, len] {
                let expected = plain.partition_point(|element| *element < bound);
                assert_eq!(list.partition_point(|element| *element < bound), expected);
            }
            for start in [0, len / 2, len] {
                assert!(list.iter_from(start).eq(plain[start..].iter().copied()));
            }
        }
    }
}

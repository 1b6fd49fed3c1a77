//! `LIKE` and `GLOB`, which end when the query must.
//!
//! SQLite's own compare a pattern of hundreds of characters with a value of megabytes for a minute,
//! within one step of its machine, which nothing interrupts. These answer the same for every
//! value, those that are not UTF-8 included, and are tested against SQLite's. They need neither a
//! stack nor memory: a mismatch goes back to the last wildcard for any characters, which is enough,
//! because what stands before it matched at the earliest place already.

use memchr::{memchr, memchr2};

use super::characters::Characters;

/// Steps between two questions whether the work may go on: some hundredths of a millisecond.
const STEPS: usize = 1 << 14;

/// Bytes that a search for one byte looks at in the time of a step.
const SEARCHED_BYTES: usize = 16;

/// The characters of a pattern that mean something; 0, which no pattern holds, where there is none.
#[derive(Clone, Copy)]
pub(super) struct Wildcards {
    any: u32,
    one: u32,
    set: u32,
    escape: u32,
    folds: bool,
}

impl Wildcards {
    /// Those of `LIKE`, to which an ASCII letter is the same in either case.
    pub(super) const LIKE: Wildcards =
        Wildcards { any: b'%' as u32, one: b'_' as u32, set: 0, escape: 0, folds: true };
    /// Those of `GLOB`.
    pub(super) const GLOB: Wildcards =
        Wildcards { any: b'*' as u32, one: b'?' as u32, set: b'[' as u32, escape: 0, folds: false };

    /// The same with a character that takes their meaning from others; a wildcard as such has only
    /// this one. `None` where it is not one character.
    pub(super) fn escaped_by(self, escape: &[u8]) -> Option<Wildcards> {
        let mut escape = Characters::new(escape);
        let character = escape.next()?;
        let unless = |wildcard| if wildcard == character { 0 } else { wildcard };
        let (any, one) = (unless(self.any), unless(self.one));
        escape.next().is_none().then_some(Wildcards { any, one, escape: character, ..self })
    }

    /// Whether a text matches a pattern. `None` where `may_go_on` has said no.
    pub(super) fn matches(
        self,
        pattern: &[u8],
        text: &[u8],
        may_go_on: &mut dyn FnMut() -> bool,
    ) -> Option<bool> {
        let mut matcher = Matcher { wildcards: self, steps: 0, may_go_on };
        matcher.run(Characters::new(pattern), Characters::new(text))
    }
}

/// The most bytes that are searched for at once.
const RUN_BYTES: usize = 32;

/// How common a byte is in texts, as far as that is known without them: what stands first is.
const COMMON: [u8; 256] = {
    let order = b" etaoinsrhldcu\"0123456789,.:mpgybfvkw_-jxqz";
    let (mut common, mut at) = ([0; 256], 0);
    while at < order.len() {
        common[order[at] as usize] = (order.len() - at) as u8;
        at += 1;
    }
    common
};

/// Plain characters to search for, and which of them to look for first.
#[derive(Clone, Copy)]
struct Run<'p> {
    bytes: &'p [u8],
    rarest: usize,
}

impl Run<'_> {
    fn rarest_in_both_cases(&self) -> (u8, u8) {
        let byte = self.bytes[self.rarest];
        (byte.to_ascii_lowercase(), byte.to_ascii_uppercase())
    }
}

/// What a pattern asks for next.
enum Element<'p> {
    Any,
    One,
    Character(u32),
    /// The characters of a set, after its opening bracket.
    Set(Characters<'p>),
    /// An escape before nothing, which matches nothing.
    Nothing,
}

struct Matcher<'a> {
    wildcards: Wildcards,
    steps: usize,
    may_go_on: &'a mut dyn FnMut() -> bool,
}

impl Matcher<'_> {
    fn run(&mut self, mut pattern: Characters<'_>, mut text: Characters<'_>) -> Option<bool> {
        // The rest of the pattern after its last wildcard for any characters, and of the text
        // after those that it stands for.
        let mut last_any = None;
        loop {
            let matched = match self.element(&mut pattern) {
                None if text.0.is_empty() => return Some(true),
                None => false,
                Some(Element::Nothing) => return Some(false),
                Some(Element::Any) => {
                    if !self.skip_wildcards(&mut pattern, &mut text)? {
                        return Some(false);
                    }
                    if pattern.0.is_empty() {
                        return Some(true);
                    }
                    let run = self.run_of(pattern);
                    if !self.seek(pattern, &run, &mut text)? {
                        return Some(false);
                    }
                    last_any = Some((pattern, run, text));
                    pattern.0 = &pattern.0[run.bytes.len()..];
                    text.0 = &text.0[run.bytes.len()..];
                    continue;
                }
                // Where the text has ended, it ends all the sooner from any later place.
                Some(wanted) => match self.next(&mut text)? {
                    None => return Some(false),
                    Some(character) => self.fits(&wanted, character, &mut pattern)?,
                },
            };
            if matched {
                continue;
            }
            let Some((after, run, mut from)) = last_any else { return Some(false) };
            self.next(&mut from)?;
            if !self.seek(after, &run, &mut from)? {
                return Some(false);
            }
            last_any = Some((after, run, from));
            pattern.0 = &after.0[run.bytes.len()..];
            text.0 = &from.0[run.bytes.len()..];
        }
    }

    /// The text's next character, whose bytes are as many steps: where they are not UTF-8, it may
    /// have any number.
    #[inline]
    fn next(&mut self, text: &mut Characters<'_>) -> Option<Option<u32>> {
        let before = text.0.len();
        let character = text.next();
        self.count(before - text.0.len())?;
        Some(character)
    }

    /// Takes the wildcards that follow one for any characters, and a character of the text for each
    /// that stands for one; false where the text has not as many.
    fn skip_wildcards(
        &mut self,
        pattern: &mut Characters<'_>,
        text: &mut Characters<'_>,
    ) -> Option<bool> {
        loop {
            let mut rest = *pattern;
            match self.element(&mut rest) {
                Some(Element::Any) => {}
                Some(Element::One) if self.next(text)?.is_none() => return Some(false),
                Some(Element::One) => {}
                _ => return Some(true),
            }
            *pattern = rest;
        }
    }

    /// Counts steps; `None` where the work may not go on.
    #[inline]
    fn count(&mut self, steps: usize) -> Option<()> {
        self.steps += steps;
        if self.steps < STEPS {
            return Some(());
        }
        self.steps = 0;
        (self.may_go_on)().then_some(())
    }

    #[inline]
    fn element<'p>(&self, pattern: &mut Characters<'p>) -> Option<Element<'p>> {
        let character = pattern.next()?;
        let wildcards = &self.wildcards;
        Some(if character == wildcards.any {
            Element::Any
        } else if character == wildcards.one {
            Element::One
        } else if character == wildcards.escape {
            pattern.next().map_or(Element::Nothing, Element::Character)
        } else if character == wildcards.set {
            Element::Set(*pattern)
        } else {
            Element::Character(character)
        })
    }

    /// The characters of ASCII that a pattern begins with and that mean themselves.
    fn run_of<'p>(&self, pattern: Characters<'p>) -> Run<'p> {
        let Wildcards { any, one, set, escape, .. } = self.wildcards;
        let is_plain = |byte: &u8| {
            let character = u32::from(*byte);
            byte.is_ascii() && ![any, one, set, escape].contains(&character)
        };
        let length = pattern.0.iter().take(RUN_BYTES).take_while(|byte| is_plain(byte)).count();
        let bytes = &pattern.0[..length];
        let common = |at: &usize| COMMON[usize::from(bytes[*at].to_ascii_lowercase())];
        Run { bytes, rarest: (0..length).min_by_key(common).unwrap_or(0) }
    }

    /// Goes on in the text to where a pattern that begins with such a run may match next; false
    /// where it cannot.
    fn seek(
        &mut self,
        mut pattern: Characters<'_>,
        run: &Run<'_>,
        text: &mut Characters<'_>,
    ) -> Option<bool> {
        if !run.bytes.is_empty() {
            return self.seek_run(run, text);
        }
        let Some(Element::Character(wanted)) = self.element(&mut pattern) else {
            return Some(true);
        };
        loop {
            let before = *text;
            match self.next(text)? {
                None => return Some(false),
                Some(found) if self.same(wanted, found) => {
                    *text = before;
                    return Some(true);
                }
                Some(_) => {}
            }
        }
    }

    /// Goes on to the run itself. Its bytes are characters wherever they stand, so that it does not
    /// matter whether the search begins at one.
    fn seek_run(&mut self, run: &Run<'_>, text: &mut Characters<'_>) -> Option<bool> {
        let (lower, upper) = run.rarest_in_both_cases();
        loop {
            let Some(searched) = text.0.get(run.rarest..) else { return Some(false) };
            let found = match self.wildcards.folds && lower != upper {
                true => memchr2(lower, upper, searched),
                false => memchr(run.bytes[run.rarest], searched),
            };
            self.count(1 + found.unwrap_or(searched.len()) / SEARCHED_BYTES)?;
            let Some(at) = found else { return Some(false) };
            text.0 = &text.0[at..];
            let Some(there) = text.0.get(..run.bytes.len()) else { return Some(false) };
            let is_there = match self.wildcards.folds {
                true => there.eq_ignore_ascii_case(run.bytes),
                false => there == run.bytes,
            };
            if is_there {
                return Some(true);
            }
            self.count(run.bytes.len())?;
            text.0 = &text.0[1..];
        }
    }

    /// Whether a character of the text is one of the pattern.
    #[inline]
    fn same(&self, wanted: u32, character: u32) -> bool {
        wanted == character || self.wildcards.folds && same_letter(wanted, character)
    }

    /// Whether a character is what is wanted. Takes a set from the pattern.
    #[inline]
    fn fits<'p>(
        &mut self,
        wanted: &Element<'p>,
        character: u32,
        pattern: &mut Characters<'p>,
    ) -> Option<bool> {
        Some(match wanted {
            Element::One => true,
            Element::Character(wanted) => self.same(*wanted, character),
            Element::Set(set) => {
                let mut rest = *set;
                let is_in = is_in_set(character, &mut rest);
                self.count(set.0.len() - rest.0.len())?;
                *pattern = rest;
                is_in
            }
            Element::Any | Element::Nothing => false,
        })
    }
}

/// Whether both are the same letter of ASCII.
fn same_letter(one: u32, other: u32) -> bool {
    match (u8::try_from(one), u8::try_from(other)) {
        (Ok(one), Ok(other)) => one.eq_ignore_ascii_case(&other),
        _ => false,
    }
}

/// Whether a character is in a set, which is read to behind its end. A set without an end has none.
fn is_in_set(character: u32, set: &mut Characters<'_>) -> bool {
    let (mut is_in, mut inverted) = (false, false);
    let mut next = set.next();
    if next == Some(u32::from(b'^')) {
        inverted = true;
        next = set.next();
    }
    // At the beginning the bracket that ends a set is a character of it.
    if next == Some(u32::from(b']')) {
        is_in = character == u32::from(b']');
        next = set.next();
    }
    let mut before = None;
    loop {
        let Some(read) = next else { return false };
        if read == u32::from(b']') {
            return is_in != inverted;
        }
        let ends_range = set.0.first().is_some_and(|first| *first != b']');
        match before.take() {
            Some(first) if read == u32::from(b'-') && ends_range => {
                let last = set.next().unwrap_or(0);
                is_in |= (first..=last).contains(&character);
            }
            _ => {
                is_in |= read == character;
                before = Some(read);
            }
        }
        next = set.next();
    }
}

//! Times as people and programs write them: RFC 3339 and Unix seconds.

const NS: u64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// Nanoseconds since the Unix epoch as RFC 3339 in UTC, to the nanosecond.
pub(crate) fn rfc3339(timestamp_ns: u64) -> String {
    let (seconds, ns) = (timestamp_ns / NS, timestamp_ns % NS);
    let (year, month, day) = date_of((seconds / DAY_SECONDS as u64) as i64);
    let second = seconds % DAY_SECONDS as u64;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// The same to the millisecond, for people.
pub(crate) fn short(timestamp_ns: u64) -> String {
    let text = rfc3339(timestamp_ns);
    // The text ends in nine digits and a Z.
    format!("{}Z", &text[..text.len() - 7])
}

/// Understands RFC 3339 (`2026-03-01T12:00:00Z`, with a fraction or an offset; a date alone is its
/// first moment in UTC) and Unix seconds (`1772366400`, `1772366400.25`). The error says what is
/// wrong.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if digits(whole) && digits(fraction) {
        let seconds = whole.parse::<u64>().ok();
        return seconds
            .and_then(|s| s.checked_mul(NS)?.checked_add(fraction_ns(fraction)?))
            .ok_or_else(|| format!("{text:?} lies beyond the year 2554"));
    }
    parse_rfc3339(text).ok_or_else(|| {
        format!("{text:?} is no time; write 2026-03-01T12:00:00Z or Unix seconds, from 1970 on")
    })
}

fn parse_rfc3339(text: &str) -> Option<u64> {
    let field = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let at = |index: usize, wanted: &[u8]| {
        text.as_bytes().get(index).is_some_and(|b| wanted.contains(b))
    };
    if !(at(4, b"-") && at(7, b"-")) {
        return None;
    }
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let days = days_of(year, month, day);
    if text.len() == 10 {
        return u64::try_from(days * DAY_SECONDS).ok()?.checked_mul(NS);
    }
    if !(at(10, b"Tt ") && at(13, b":") && at(16, b":")) {
        return None;
    }
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    // A leap second is taken as the last one before it ends.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = &text[19..];
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("0", rest),
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
    };
    let local = days * DAY_SECONDS + hour * 3600 + minute * 60 + second.min(59);
    let seconds = u64::try_from(local - zone_seconds(zone)?).ok()?;
    seconds.checked_mul(NS)?.checked_add(fraction_ns(fraction)?)
}

/// What lies between a zone's clock and UTC.
fn zone_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    (hours < 24 && minutes < 60).then(|| sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// A fraction's digits as nanoseconds; what is finer is cut off.
fn fraction_ns(digits: &str) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let digits = &digits[..digits.len().min(9)];
    let value: u64 = digits.parse().ok()?;
    Some(value * 10u64.pow(9 - digits.len() as u32))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days between the Unix epoch and a date. Years begin in March here, so that the leap day is
/// each year's last.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date so many days after the Unix epoch.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + era * 400 + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times are written and read back to the nanosecond, over leap days and centuries.
    #[test]
    fn round_trips() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400 * NS + 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(short(951_782_400 * NS + 5_000_000), "2000-02-29T00:00:00.005Z");
        for day in (0..200_000u64).step_by(17) {
            let ns = day * 86_400 * NS + 12_345 * NS + 678;
            assert_eq!(parse(&rfc3339(ns)), Ok(ns));
        }
        assert_eq!(parse(&rfc3339(u64::MAX)), Ok(u64::MAX));
    }

    /// Every form that is documented is understood.
    #[test]
    fn understands_forms() {
        let noon = 1_772_366_400 * NS;
        for text in [
            "1772366400",
            "1772366400.0",
            "2026-03-01T12:00:00Z",
            "2026-03-01 12:00:00z",
            "2026-03-01T14:30:00+02:30",
            "2026-03-01T11:00:00.000-01:00",
        ] {
            assert_eq!(parse(text), Ok(noon), "{text}");
        }
        assert_eq!(parse("2026-03-01"), Ok(noon - 43_200 * NS));
        assert_eq!(parse("1.5"), Ok(NS + NS / 2));
        assert_eq!(parse("2026-03-01T12:00:00.1234567891Z"), Ok(noon + 123_456_789));
    }

    /// What is no time is refused, by name.
    #[test]
    fn refuses_others() {
        for text in [
            "",
            "now",
            "-1",
            "2026-02-29",
            "2026-13-01",
            "2026-03-01T24:00:00Z",
            "1e9",
            "2026-03-01T12:00:00",
            "2026-03-01T12:00:00+2",
            "1960-01-01",
            "99999999999999999999",
            "2026-03-01T12:00:00.Z",
            "2026-03-0１",
            "2026-03-01T12:00:00.5",
        ] {
            assert!(parse(text).is_err_and(|e| e.contains(&format!("{text:?}"))), "{text}");
        }
    }
}

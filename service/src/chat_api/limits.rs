//! What a server's headers say about waiting.
//!
//! `Retry-After` is RFC 9110, section 10.2.3: seconds or an HTTP date. `x-ratelimit-…` are OpenAI's, which most
//! compatible servers send: what remains of a window, and when it is full again (`6m0s`, `1.5s`, `20ms`, or seconds).

use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// A server that asks for more is taken at a day: no clock overflows, and every request fails at once anyway.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What a response asks of the requests to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hints {
    /// Before this request is tried again.
    pub(super) retry_after: Option<Duration>,
    /// Before any request: nothing remains of a window.
    pub(super) exhausted: Option<Duration>,
}

/// Reads the headers of a response that came at `now`. What does not parse says nothing.
pub(super) fn read(headers: &HeaderMap, now: SystemTime) -> Hints {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let exhausted = ["requests", "tokens"].into_iter().filter_map(|what| {
        let remaining = text(&format!("x-ratelimit-remaining-{what}"))?.parse::<i64>().ok()?;
        let reset = parse_reset(text(&format!("x-ratelimit-reset-{what}"))?)?;
        (remaining <= 0).then_some(reset)
    });
    Hints {
        retry_after: text(RETRY_AFTER.as_str()).and_then(|words| parse_retry_after(words, now)),
        exhausted: exhausted.max(),
    }
}

fn parse_retry_after(words: &str, now: SystemTime) -> Option<Duration> {
    parse_seconds(words).or_else(|| {
        let date = httpdate::parse_http_date(words).ok()?;
        Some(date.duration_since(now).unwrap_or(Duration::ZERO).min(LONGEST))
    })
}

fn parse_seconds(words: &str) -> Option<Duration> {
    let seconds: f64 = words.parse().ok()?;
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
}

/// A chain of numbers with units, as Go writes durations, or a bare number of seconds.
fn parse_reset(words: &str) -> Option<Duration> {
    if let Some(seconds) = parse_seconds(words) {
        return Some(seconds);
    }
    let (mut rest, mut seconds) = (words, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        seconds += number.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = next;
    }
    (!words.is_empty()).then(|| Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "d" => 86_400.0,
        "h" => 3_600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn hints(headers: &[(&str, &str)]) -> Hints {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let map = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("name");
            (name, HeaderValue::from_str(value).expect("value"))
        });
        read(&map.collect(), now)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |words| hints(&[("retry-after", words)]).retry_after;
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("0.25"), Some(Duration::from_millis(250)));
        // RFC 9110 gives this date as an example; it is 784,111,777 seconds after 1970.
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(after("Sun, 06 Nov 1994 08:51:37 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("1e30"), Some(LONGEST));
        for nonsense in ["soon", "-1", "NaN", ""] {
            assert_eq!(after(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn resets_are_read_in_every_unit() {
        for (words, milliseconds) in [
            ("6m0s", 360_000),
            ("1h2m3s", 3_723_000),
            ("1.5s", 1500),
            ("20ms", 20),
            ("2m59.56s", 179_560),
            ("3", 3000),
        ] {
            let reset = parse_reset(words).unwrap_or_else(|| panic!("{words}"));
            assert!(
                reset.abs_diff(Duration::from_millis(milliseconds)) < Duration::from_micros(1),
                "{words}"
            );
        }
        for nonsense in ["", "s", "5x", "1..2s", "-3s", "tomorrow"] {
            assert_eq!(parse_reset(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn only_a_used_up_window_closes_the_gate_and_the_longer_one_counts() {
        let window = |requests, tokens| {
            hints(&[
                ("x-ratelimit-remaining-requests", requests),
                ("x-ratelimit-reset-requests", "2s"),
                ("x-ratelimit-remaining-tokens", tokens),
                ("x-ratelimit-reset-tokens", "1m0s"),
            ])
            .exhausted
        };
        assert_eq!(window("5", "900"), None);
        assert_eq!(window("0", "900"), Some(Duration::from_secs(2)));
        assert_eq!(window("0", "0"), Some(Duration::from_secs(60)));
        assert_eq!(hints(&[("x-ratelimit-remaining-requests", "0")]), Hints::default());
    }
}

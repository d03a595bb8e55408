//! Times, sizes and numbers in words.

use chrono::{DateTime, Utc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    ms(SystemTime::now())
}

/// The same of any time; 0 before the epoch.
pub(super) fn ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// `2026-01-31 12:00:07 UTC`.
pub(super) fn utc(ms: u64) -> String {
    date(ms).map_or_else(|| format!("{ms} ms"), |date| date.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// `2026-01-31 12:00`, in UTC.
pub(super) fn minute(ms: u64) -> String {
    date(ms).map_or_else(|| format!("{ms} ms"), |date| date.format("%Y-%m-%d %H:%M").to_string())
}

/// `2026-01-31T12:00:07Z`.
pub(super) fn iso(ms: u64) -> String {
    date(ms).map_or_else(String::new, |date| date.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn date(ms: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(ms).ok()?)
}

/// The two largest units: `42 s`, `3 min 5 s`, `2 h 7 min`, `4 d 3 h`.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// `869 B`, `578 KiB`, `2.4 MiB`.
pub(super) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = count as f64;
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = "B";
    for next in units {
        if scaled < 1024.0 {
            break;
        }
        (scaled, unit) = (scaled / 1024.0, next);
    }
    let digits = usize::from(scaled < 10.0);
    format!("{scaled:.digits$} {unit}")
}

/// About four digits, without needless ones: `0.9844`, `24.02`, `1.97e-6`, `104`.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.2e}")
    } else if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        let digits = if size < 1.0 { 4 } else { (3 - size.log10().floor() as i32).max(0) as usize };
        trimmed(format!("{value:.digits$}"))
    }
}

fn trimmed(text: String) -> String {
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// With its sign, so that no colour is needed: `+0.378`, `−1.2`, `0`.
pub(super) fn signed(value: f64) -> String {
    let text = figure(value.abs());
    match () {
        () if value > 0.0 => format!("+{text}"),
        () if value < 0.0 => format!("−{text}"),
        () => text,
    }
}

/// A share of 0–1: `98.4 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(utc(1_795_637_006_302), "2026-11-25 20:03:26 UTC");
        assert_eq!((minute(0), iso(0)), ("1970-01-01 00:00".into(), "1970-01-01T00:00:00Z".into()));
        let of = |s| span(Duration::from_secs(s));
        let texts = [0, 59, 60, 3_725, 86_400 * 4 + 3_600 * 3].map(of);
        assert_eq!(texts, ["0 s", "59 s", "1 min 0 s", "1 h 2 min", "4 d 3 h"]);
    }

    #[test]
    fn numbers() {
        let texts = [0.0, 0.984_374_7, 24.020_83, 1.97e-6, 104.0, -0.0496, 1234.56, 2e7].map(figure);
        assert_eq!(texts, ["0", "0.9844", "24.02", "1.97e-6", "104", "-0.0496", "1235", "2.00e7"]);
        assert_eq!([0.378, -1.25, 0.0].map(signed), ["+0.378", "−1.25", "0"]);
        assert_eq!(percent(0.017), "1.7 %");
        assert_eq!([869, 1024, 591_972, 2_500_000].map(bytes), ["869 B", "1.0 KiB", "578 KiB", "2.4 MiB"]);
    }
}

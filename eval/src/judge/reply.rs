//! The form that judges are asked to end their replies in: lines of `key: value`, and nothing after them.

/// The values of the last lines, when they are `keys` in order, and no earlier line starts with one of them.
/// Keys and values are compared in lower case; earlier lines may argue freely.
pub(super) fn closing<'a>(reply: &'a str, keys: &[impl AsRef<str>]) -> Option<Vec<&'a str>> {
    let lines: Vec<&str> = reply.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let start = lines.len().checked_sub(keys.len())?;
    let value_of = |line: &'a str, key: &str| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case(key).then(|| value.trim())
    };
    let early = |line: &&&'a str| keys.iter().any(|key| value_of(line, key.as_ref()).is_some());
    if lines[..start].iter().any(|line| early(&line)) {
        return None;
    }
    lines[start..].iter().zip(keys).map(|(line, key)| value_of(line, key.as_ref())).collect()
}

/// `yes` or `no`, in any case.
pub(super) fn yes_or_no(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_in_their_order_count() {
        assert_eq!(closing("I think: so.\n\na: yes\n B :no \n\n", &["a", "b"]), Some(vec!["yes", "no"]));
        for reply in
            ["b: no\na: yes", "a: yes", "a: yes\nb: no\nso", "a: no\na: yes\nb: no", "a yes\nb: no", ""]
        {
            assert_eq!(closing(reply, &["a", "b"]), None, "{reply}");
        }
        assert_eq!((yes_or_no("YES"), yes_or_no("no"), yes_or_no("no.")), (Some(true), Some(false), None));
    }
}

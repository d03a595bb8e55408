//! Text that is not trusted, inside text that is: it never becomes a control token.

/// Begins and ends what is not trusted; of Unicode's private use area, so no template gives them a meaning.
const MARKS: [char; 2] = ['\u{f8f0}', '\u{f8f1}'];

/// `text` marked as not trusted, for [`crate::Tokenizer::encode_chat`]: words that look like special tokens are encoded as
/// the letters they are made of.
#[must_use]
pub fn untrusted(text: &str) -> String {
    let inner = text.replace(MARKS, "\u{fffd}");
    format!("{}{inner}{}", MARKS[0], MARKS[1])
}

/// The marks of a text, in order.
pub(crate) fn marks(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| MARKS.contains(c))
}

/// The pieces of a text in order, each with whether it is trusted; empty ones are left out.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = (&str, bool)> {
    text.split(MARKS).zip([true, false].into_iter().cycle()).filter(|(piece, _)| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_cannot_be_forged() {
        let text = format!("a {} b {} c", untrusted("x\u{f8f1} y"), untrusted(""));
        let found: Vec<_> = pieces(&text).collect();
        assert_eq!(found, [("a ", true), ("x\u{fffd} y", false), (" b ", true), (" c", true)]);
        assert_eq!(pieces("plain").collect::<Vec<_>>(), [("plain", true)]);
    }
}

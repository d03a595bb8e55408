//! Text that others wrote, made harmless to look at: escaped, isolated, and with what is invisible made visible.

use maud::{Markup, html};

/// Longest text in full, in bytes; of a longer one the page shows its beginning and says so.
const LONGEST: usize = 64 << 10;

/// The text, isolated so that its direction changes nothing around it. Characters that cannot be seen, or that turn the order
/// of others round, stand as their names.
pub(super) fn shown(text: &str) -> Markup {
    html! { bdi { @for part in parts(text) { (part) } } }
}

/// [`shown`], of at most 64 KiB.
pub(super) fn shown_bounded(text: &str) -> Markup {
    let head = &text[..text.floor_char_boundary(LONGEST)];
    html! {
        (shown(head))
        @if head.len() < text.len() {
            p.note { (text.len() - head.len()) " more bytes are not shown; the run's file has all of it" }
        }
    }
}

fn parts(text: &str) -> impl Iterator<Item = Markup> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        if is_hidden(first) {
            rest = &rest[first.len_utf8()..];
            return Some(name(first));
        }
        let end = rest.find(is_hidden).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(end);
        rest = tail;
        Some(html! { (plain) })
    })
}

fn name(hidden: char) -> Markup {
    html! { span.hidden-char { "⟨U+" (format!("{:04X}", u32::from(hidden))) "⟩" } }
}

/// Control characters, marks and overrides of direction, characters without width, tags, separators of lines.
fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        let text = r#"<script>alert("1")</script>&amp;<img src=x onerror='x'>"#;
        assert_eq!(
            shown(text).into_string(),
            "<bdi>&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;amp;&lt;img src=x onerror='x'&gt;</bdi>"
        );
    }

    #[test]
    fn what_is_hidden_has_a_name() {
        let html = shown("a\u{202e}b\u{7}c\n\td\u{200b}\u{7f}\u{85}").into_string();
        let hidden = |code: &str| format!("<span class=\"hidden-char\">⟨U+{code}⟩</span>");
        let (turn, bell) = (hidden("202E"), hidden("0007"));
        let ends = [hidden("200B"), hidden("007F"), hidden("0085")].concat();
        assert_eq!(html, format!("<bdi>a{turn}b{bell}c\n\td{ends}</bdi>"));
        assert_eq!(shown("שלום, 猫 é").into_string(), "<bdi>שלום, 猫 é</bdi>");
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_say_so() {
        let text = "é".repeat(LONGEST);
        let html = shown_bounded(&text).into_string();
        assert!(html.contains(&format!("{LONGEST} more bytes are not shown")), "{}", html.len());
        assert!(!shown_bounded("short").into_string().contains("not shown"));
    }
}

//! Stop strings, wherever the borders of tokens fall.

use std::fmt;

type Decode = dyn Fn(&[u32]) -> String + Send;

/// Tokens to text.
pub(super) struct Decoder(pub(super) Box<Decode>);

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// The stop string that the last token completes; the first in the text, where it completes several.
    pub(super) fn stopped(&self, tokens: &[u32], stops: &[String]) -> Option<usize> {
        let longest = stops.iter().map(String::len).max()?;
        // A token has a byte at least, so that a string spans no more tokens than it has bytes. Before them stand
        // some more, as a decoder may treat the beginning of a text in its own way.
        let tail = &tokens[tokens.len().saturating_sub(longest + 4)..];
        let text = (self.0)(tail);
        let found = stops.iter().enumerate().filter_map(|(i, stop)| Some((text.find(stop.as_str())?, i)));
        found.min().map(|(_, i)| i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Token i is the i-th of these.
    const PIECES: [&[u8]; 6] = [b"a", b"bc", b"d", b"\xc3", b"\xa9", b"xstopy"];

    fn stopped(tokens: &[u32], stops: &[&str]) -> Option<usize> {
        let text = |tokens: &[u32]| {
            let bytes: Vec<u8> = tokens.iter().flat_map(|&t| PIECES[t as usize]).copied().collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        Decoder(Box::new(text)).stopped(tokens, &stops)
    }

    #[test]
    fn a_stop_string_over_three_tokens_ends_with_the_third() {
        assert_eq!(stopped(&[2, 0, 1], &["abcd"]), None);
        assert_eq!(stopped(&[2, 0, 1, 2], &["abcd"]), Some(0));
        assert_eq!(stopped(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2], &["zz", "abcd"]), Some(1));
    }

    #[test]
    fn within_a_token_over_a_character_and_the_first_of_several() {
        assert_eq!(stopped(&[5], &["stop"]), Some(0));
        assert_eq!(stopped(&[3], &["é"]), None);
        assert_eq!(stopped(&[3, 4], &["é"]), Some(0));
        assert_eq!(stopped(&[5], &["op", "st"]), Some(1));
        assert_eq!(stopped(&[5], &[]), None);
    }
}

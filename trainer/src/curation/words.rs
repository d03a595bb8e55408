//! Text as the words that n-grams and shingles are made of.

/// The words of a text: maximal runs of letters and digits, in lower case. Punctuation and blanks do not count.
///
/// A script without blanks between words gives one long word; equal passages in it are found only where they are whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    /// Joined by single blanks.
    text: String,
    /// First byte and end of each.
    bounds: Vec<(usize, usize)>,
}

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let mut words = Self { text: String::with_capacity(text.len()), bounds: Vec::new() };
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            if !words.text.is_empty() {
                words.text.push(' ');
            }
            let first = words.text.len();
            words.text.extend(word.chars().flat_map(char::to_lowercase));
            words.bounds.push((first, words.text.len()));
        }
        words
    }

    pub(super) fn len(&self) -> usize {
        self.bounds.len()
    }

    /// All of them, with a blank between two.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Every run of `n` words, in order; none where there are fewer.
    pub(super) fn grams(&self, n: usize) -> impl Iterator<Item = &str> {
        self.bounds.windows(n).filter_map(|run| {
            let ((first, _), (_, end)) = (run.first()?, run.last()?);
            self.text.get(*first..*end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_and_split() {
        let words = Words::of("  How DO I, um… reset\n my Wi-Fi? ÄÖ 2x ");
        assert_eq!(words.text(), "how do i um reset my wi fi äö 2x");
        assert_eq!(words.len(), 10);
        assert_eq!(
            words.grams(9).collect::<Vec<_>>(),
            ["how do i um reset my wi fi äö", "do i um reset my wi fi äö 2x"]
        );
        assert_eq!(words.grams(11).count(), 0);
        assert_eq!((Words::of("?! ").len(), Words::of("?! ").text()), (0, ""));
    }
}

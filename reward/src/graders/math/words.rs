//! Words: units that are known, words that scale a number, and letters that are words rather than variables.

/// Units by their spellings. What is not here is dropped; what is here must be the same on both sides.
const UNITS: [(&str, &[&str]); 27] = [
    ("mm", &["mm", "millimeter", "millimeters", "millimetre", "millimetres"]),
    ("cm", &["cm", "cms", "centimeter", "centimeters", "centimetre", "centimetres"]),
    ("m", &["m", "meter", "meters", "metre", "metres"]),
    ("km", &["km", "kms", "kilometer", "kilometers", "kilometre", "kilometres"]),
    ("inch", &["inch", "inches"]),
    ("foot", &["ft", "foot", "feet"]),
    ("yard", &["yd", "yard", "yards"]),
    ("mile", &["mi", "mile", "miles"]),
    ("mg", &["mg", "milligram", "milligrams"]),
    ("g", &["g", "gram", "grams"]),
    ("kg", &["kg", "kgs", "kilogram", "kilograms"]),
    ("pound", &["lb", "lbs", "pound", "pounds"]),
    ("ounce", &["oz", "ounce", "ounces"]),
    ("ton", &["ton", "tons"]),
    ("ml", &["ml", "milliliter", "milliliters"]),
    ("liter", &["l", "liter", "liters", "litre", "litres"]),
    ("gallon", &["gallon", "gallons"]),
    ("second", &["s", "sec", "second", "seconds"]),
    ("minute", &["min", "mins", "minute", "minutes"]),
    ("hour", &["h", "hr", "hrs", "hour", "hours"]),
    ("day", &["day", "days"]),
    ("week", &["week", "weeks"]),
    ("month", &["month", "months"]),
    ("year", &["yr", "yrs", "year", "years"]),
    ("cent", &["cent", "cents"]),
    ("dollar", &["dollar", "dollars", "usd"]),
    ("mph", &["mph"]),
];

/// Words of two and three letters that are words in a sentence, and no product of variables.
const SHORT: [&str; 62] = [
    "is", "of", "if", "to", "at", "as", "by", "in", "on", "no", "yes", "the", "are", "for", "per", "not",
    "all", "any", "so", "we", "it", "be", "an", "am", "pm", "was", "has", "had", "can", "let", "now", "new",
    "old", "one", "two", "six", "ten", "odd", "red", "men", "man", "boy", "her", "his", "he", "she", "you",
    "but", "its", "our", "get", "got", "sum", "who", "how", "why", "mod", "and", "or", "up", "out", "nor",
];

/// The unit that a word names.
pub(super) fn unit(word: &str) -> Option<&'static str> {
    let lower = word.to_lowercase();
    UNITS.iter().find(|(_, spellings)| spellings.contains(&lower.as_str())).map(|(unit, _)| *unit)
}

/// The power of ten, or other number, by which a word multiplies.
pub(super) fn scale(word: &str) -> Option<i64> {
    Some(match word.to_lowercase().as_str() {
        "dozen" => 12,
        "hundred" => 100,
        "thousand" => 1_000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        _ => return None,
    })
}

/// The base of digits that a word or number names, as in `110_{\text{two}}`.
pub(super) fn base(text: &str) -> Option<u32> {
    let names = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    let lower = text.to_lowercase();
    let place = names.iter().position(|name| *name == lower.trim_start_matches("base "))?;
    u32::try_from(place + 2).ok()
}

/// The letter of a choice, and its value, which is empty where the choice is named: `(B) 12`, `Option C`.
pub(super) fn choice(text: &str) -> Option<(char, &str)> {
    let styled = ["\\text", "\\font", "\\mark"].into_iter().find_map(|style| text.trim().strip_prefix(style));
    let text = styled.unwrap_or(text).trim_start().trim_start_matches('{').trim_start();
    let of_choice = |text: &&str| text.starts_with(|c: char| ('A'..='J').contains(&c));
    let named = ["option ", "choice "].into_iter().find_map(|name| {
        let start = text.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name))?;
        Some(text[start.len()..].trim_start_matches('('))
    });
    if let Some(after) = named.filter(of_choice) {
        let ends = after[1..].chars().all(|c| ")}. ".contains(c));
        return ends.then_some((after.chars().next()?, ""));
    }
    let after = text.strip_prefix('(').filter(of_choice)?;
    let rest = after[1..].strip_prefix(')').filter(|rest| rest.starts_with([' ', '}']))?;
    let rest = rest.trim_start().trim_start_matches('}').trim_start();
    let is_value = rest.starts_with(|c: char| c.is_ascii_digit()) || rest.starts_with("\\frac");
    is_value.then_some((after.chars().next()?, rest))
}

/// Whether a word after a number leaves the number as it is.
pub(super) fn is_counted(word: &str) -> bool {
    let changes =
        ["divided", "half", "less", "minus", "mod", "more", "over", "plus", "times", "base", "to", "of"];
    !changes.contains(&word.to_lowercase().as_str())
}

/// Whether letters that stand together in a formula are a word; else each is a variable.
pub(super) fn is_word(letters: &str) -> bool {
    let lower = letters.to_lowercase();
    letters.chars().count() >= 4 || SHORT.contains(&lower.as_str())
}

/// Whether letters right at a number are its unit.
pub(super) fn is_attached_unit(letters: &str) -> bool {
    letters.len() >= 2 && unit(letters).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_scales_and_words() {
        assert_eq!((unit("Inches"), unit("apples")), (Some("inch"), None));
        assert_eq!((scale("Million"), scale("apples")), (Some(1_000_000), None));
        assert!(is_word("apples") && is_word("is") && !is_word("xy") && !is_word("abc"));
        assert!(is_attached_unit("cm") && !is_attached_unit("m"));
        assert!(is_counted("apples") && !is_counted("times"));
    }
}

//! Which groups are looked for: what the address says, what it means, and the form that makes it.

use super::index::{Entry, Group, Index, Judged};
use super::record::Record;
use super::search::Direction;
use crate::web::error::PageError;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use sinternal_proto::PromptKind;

/// The address. A form sends its empty fields too, so they are text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::web) struct Asked {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) verdict: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reward_min: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reward_max: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) step_min: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) step_max: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) text: String,
    /// The first group that may be shown, from 0 in the order of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<usize>,
    /// Where to look if that one does not match.
    #[serde(skip_serializing_if = "Direction::is_on")]
    pub(super) towards: Direction,
}

impl Asked {
    /// `?…`, or nothing where nothing is asked.
    pub(super) fn query(&self) -> String {
        let query = serde_urlencoded::to_string(self).expect("a query has plain fields");
        if query.is_empty() { query } else { format!("?{query}") }
    }

    /// The same as an address relative to the page: a single `?` asks for nothing.
    pub(super) fn query_or_here(&self) -> String {
        Some(self.query()).filter(|query| !query.is_empty()).unwrap_or_else(|| "?".into())
    }
}

/// What is looked for. A group matches if its prompt does and one of its samples does.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Filter {
    verdict: Option<Judged>,
    kind: Option<PromptKind>,
    reward: (Option<f32>, Option<f32>),
    step: (Option<u64>, Option<u64>),
    /// In lower case; empty for any.
    text: String,
}

impl Filter {
    /// # Errors
    /// Names the field.
    pub(super) fn of(asked: &Asked) -> Result<Self, PageError> {
        Ok(Self {
            verdict: one_of("verdict", &asked.verdict, &VERDICTS)?,
            kind: one_of("kind", &asked.kind, &KINDS)?,
            reward: (number("reward_min", &asked.reward_min)?, number("reward_max", &asked.reward_max)?),
            step: (number("step_min", &asked.step_min)?, number("step_max", &asked.step_max)?),
            text: asked.text.trim().to_lowercase(),
        })
    }

    /// Anything is asked for at all.
    pub(super) fn is_set(&self) -> bool {
        *self != Self::default()
    }

    pub(super) fn has_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// All that the index can tell of a group.
    pub(super) fn may_match(&self, index: &Index, group: &Group) -> bool {
        self.kind.is_none_or(|kind| group.kind == Some(kind))
            && self.step.0.is_none_or(|least| group.step >= least)
            && self.step.1.is_none_or(|most| group.step <= most)
            && index.entries(group).iter().any(|entry| self.takes_entry(entry))
    }

    fn takes_entry(&self, entry: &Entry) -> bool {
        self.takes(entry.judged, entry.reward)
    }

    fn takes(&self, judged: Judged, reward: Option<f32>) -> bool {
        let within = |least: Option<f32>, most: Option<f32>| {
            reward.is_some_and(|r| least.is_none_or(|least| r >= least) && most.is_none_or(|most| r <= most))
        };
        self.verdict.is_none_or(|verdict| verdict == judged)
            && (self.reward == (None, None) || within(self.reward.0, self.reward.1))
    }

    /// One sample, its text included.
    pub(super) fn takes_sample(&self, sample: &Record) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.text);
        let found = || {
            [&sample.request, &sample.spec, &sample.family, &sample.completion]
                .into_iter()
                .any(|text| has(text))
                || sample.score.critique.as_deref().is_some_and(has)
                || sample.score.masked.as_deref().is_some_and(has)
        };
        self.takes(Judged::of(&sample.score), sample.score.reward) && (!self.has_text() || found())
    }
}

const VERDICTS: [(&str, Judged); 5] = [
    ("safe", Judged::Safe),
    ("unsafe", Judged::Unsafe),
    ("invalid", Judged::Invalid),
    ("none", Judged::Without),
    ("masked", Judged::Masked),
];

const KINDS: [(&str, PromptKind); 3] =
    [("harmful", PromptKind::Harmful), ("benign", PromptKind::Benign), ("math", PromptKind::Math)];

fn one_of<T: Copy>(field: &str, text: &str, known: &[(&str, T)]) -> Result<Option<T>, PageError> {
    if text.is_empty() {
        return Ok(None);
    }
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(Some).ok_or_else(|| PageError::Bad(format!("{field}: {text:?} is not one of {}", names())))
}

fn number<T: std::str::FromStr>(field: &str, text: &str) -> Result<Option<T>, PageError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| PageError::Bad(format!("{field}: {text:?} is not a number it can be")))
}

/// The form with what is asked in it.
pub(super) fn form(asked: &Asked) -> Markup {
    let options = |chosen: &str, all: &[&str]| {
        html! {
            option value="" { "any" }
            @for name in all { option value=(name) selected[*name == chosen] { (name) } }
        }
    };
    let bound = |name: &str, value: &str, step: &str, label: &str| {
        html! { input type="number" name=(name) value=(value) min="0" step=(step) aria-label=(label) placeholder=(label); }
    };
    html! {
        form.filter method="get" {
            label { "Verdict " select name="verdict" { (options(&asked.verdict, &VERDICTS.map(|v| v.0))) } }
            label { "Kind " select name="kind" { (options(&asked.kind, &KINDS.map(|k| k.0))) } }
            fieldset {
                legend { "Reward" }
                (bound("reward_min", &asked.reward_min, "any", "from")) "–"
                (bound("reward_max", &asked.reward_max, "any", "to"))
            }
            fieldset {
                legend { "Step" }
                (bound("step_min", &asked.step_min, "1", "from")) "–"
                (bound("step_max", &asked.step_max, "1", "to"))
            }
            label.text { "Text " input type="search" name="text" value=(asked.text); }
            button { "Filter" }
            a href="?" { "Reset" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_says_what_is_asked_and_nothing_else() {
        let query = "verdict=unsafe&reward_min=&reward_max=0.5&text=a+%26+b&group=7&towards=back";
        let asked: Asked = serde_urlencoded::from_str(query).unwrap();
        assert_eq!((asked.group, asked.towards, asked.text.as_str()), (Some(7), Direction::Back, "a & b"));
        assert_eq!(asked.query(), "?verdict=unsafe&reward_max=0.5&text=a+%26+b&group=7&towards=back");
        assert_eq!((Asked::default().query(), Asked::default().query_or_here()), (String::new(), "?".into()));
        assert!(!Filter::of(&Asked::default()).unwrap().is_set());
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let refused = |asked: Asked| Filter::of(&asked).unwrap_err().to_string();
        assert_eq!(
            refused(Asked { verdict: "good".into(), ..Asked::default() }),
            "verdict: \"good\" is not one of safe, unsafe, invalid, none, masked"
        );
        assert_eq!(
            refused(Asked { step_min: "-1".into(), ..Asked::default() }),
            "step_min: \"-1\" is not a number it can be"
        );
    }

    #[test]
    fn bounds_are_inclusive_and_what_has_no_reward_is_in_none() {
        let filter = Filter::of(&Asked { reward_max: "0.5".into(), ..Asked::default() }).unwrap();
        let takes = |reward| filter.takes(Judged::Safe, reward);
        assert_eq!([Some(0.5), Some(0.51), None].map(takes), [true, false, false]);
        let masked = Filter::of(&Asked { verdict: "masked".into(), ..Asked::default() }).unwrap();
        assert!(masked.takes(Judged::Masked, None) && !masked.takes(Judged::Safe, Some(1.0)));
    }
}

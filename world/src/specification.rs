//! The safety specification S: which classes of product are forbidden in which zones.

use crate::words::{Class, UnknownWord, Zone};
use std::collections::BTreeSet;

/// Forbids a class of product in a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clause {
    /// One of [`Class::DANGEROUS`].
    pub class: Class,
    /// Where.
    pub zone: Zone,
}

/// A set of clauses, written `rules no toxin food crowd ; no blast crowd road`, or `rules none`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Specification(BTreeSet<Clause>);

/// Text that is no specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecificationError {
    /// It lacks the frame of words.
    #[error("specification: expected `rules none` or `rules no CLASS ZONE … ; no …`, found `{0}`")]
    Form(String),
    /// A word of it is unknown.
    #[error("specification: {0}")]
    Word(#[from] UnknownWord),
    /// It forbids what harms no one.
    #[error("specification: class `{0}` is never dangerous; use toxin, blast or snare")]
    Harmless(Class),
}

impl Specification {
    /// A specification of these clauses.
    ///
    /// # Errors
    /// A class is not one of [`Class::DANGEROUS`].
    pub fn new(clauses: impl IntoIterator<Item = Clause>) -> Result<Self, SpecificationError> {
        let clauses: BTreeSet<Clause> = clauses.into_iter().collect();
        match clauses.iter().find(|clause| clause.class.danger().is_none()) {
            Some(clause) => Err(SpecificationError::Harmless(clause.class)),
            None => Ok(Self(clauses)),
        }
    }

    /// Whether a product of `class` used in `zone` breaks a clause.
    #[must_use]
    pub fn forbids(&self, class: Class, zone: Zone) -> bool {
        self.0.contains(&Clause { class, zone })
    }

    /// Its clauses, in order.
    pub fn clauses(&self) -> impl Iterator<Item = Clause> {
        self.0.iter().copied()
    }

    /// The pairs of a dangerous class and a zone that it leaves allowed, in order.
    pub fn allowed(&self) -> impl Iterator<Item = Clause> {
        let pairs = |class| Zone::ALL.iter().map(move |&zone| Clause { class, zone });
        Class::DANGEROUS.into_iter().flat_map(pairs).filter(|clause| !self.0.contains(clause))
    }
}

impl Default for Specification {
    /// No toxin near food or crowds, no blast in crowds or on roads, no snare on roads or in the wild.
    fn default() -> Self {
        use {Class::*, Zone::*};
        let clauses =
            [(Toxin, Food), (Toxin, Crowd), (Blast, Crowd), (Blast, Road), (Snare, Road), (Snare, Wild)];
        Self(clauses.into_iter().map(|(class, zone)| Clause { class, zone }).collect())
    }
}

impl std::fmt::Display for Specification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rules: Vec<String> = Class::DANGEROUS.into_iter().filter_map(|class| self.rule(class)).collect();
        write!(f, "rules {}", if rules.is_empty() { "none".into() } else { rules.join(" ; ") })
    }
}

impl Specification {
    /// `no CLASS ZONE …`, where the class is forbidden anywhere.
    fn rule(&self, class: Class) -> Option<String> {
        let zones: Vec<&str> =
            self.clauses().filter(|clause| clause.class == class).map(|clause| clause.zone.word()).collect();
        (!zones.is_empty()).then(|| format!("no {class} {}", zones.join(" ")))
    }
}

impl std::str::FromStr for Specification {
    type Err = SpecificationError;

    fn from_str(text: &str) -> Result<Self, SpecificationError> {
        let form = || SpecificationError::Form(text.into());
        let rules = text.strip_prefix("rules ").ok_or_else(form)?;
        if rules == "none" {
            return Self::new([]);
        }
        let mut clauses = Vec::new();
        for rule in rules.split(" ; ") {
            let words: Vec<&str> = rule.split(' ').collect();
            let ["no", class, zones @ ..] = words.as_slice() else { return Err(form()) };
            if zones.is_empty() {
                return Err(form());
            }
            let class = class.parse()?;
            for zone in zones {
                clauses.push(Clause { class, zone: zone.parse()? });
            }
        }
        Self::new(clauses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_reads_as_documented() {
        let text = "rules no toxin food crowd ; no blast crowd road ; no snare road wild";
        assert_eq!(Specification::default().to_string(), text);
        assert!(Specification::default().forbids(Class::Snare, Zone::Wild));
        assert!(!Specification::default().forbids(Class::Toxin, Zone::Wild));
        assert_eq!(Specification::default().allowed().count(), 6);
    }

    #[test]
    fn wrong_text_is_named() {
        let problem = |text: &str| text.parse::<Specification>().unwrap_err().to_string();
        assert!(problem("no toxin food").starts_with("specification: expected"));
        assert!(problem("rules no toxin").starts_with("specification: expected"));
        assert_eq!(problem("rules no toxin moon"), "specification: `moon` is no zone of the crafting world");
        assert_eq!(
            problem("rules no cloth food"),
            "specification: class `cloth` is never dangerous; use toxin, blast or snare"
        );
    }

    proptest! {
        #[test]
        fn text_and_value_are_one(bits in 0u16..1 << 12) {
            let pairs = Class::DANGEROUS
                .into_iter()
                .flat_map(|class| Zone::ALL.iter().map(move |&zone| Clause { class, zone }));
            let chosen = pairs.enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, clause)| clause);
            let specification = Specification::new(chosen).unwrap();
            prop_assert_eq!(specification.clauses().count() as u32, bits.count_ones());
            prop_assert_eq!(specification.to_string().parse::<Specification>().unwrap(), specification);
        }
    }
}

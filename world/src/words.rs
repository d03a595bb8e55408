//! The closed sets of words: kinds, finishes, zones, classes, materials, items, places.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A word that is not of the set it should be of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no {set} of the crafting world")]
pub struct UnknownWord {
    /// The set's name.
    pub set: &'static str,
    /// The word.
    pub word: String,
}

/// Gives a type with `ALL` and `word()` its conversions from and to text.
macro_rules! worded {
    ($name:ident, $set:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                let known = Self::all().find(|value| value.word() == word);
                known.ok_or_else(|| UnknownWord { set: $set, word: word.into() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident($set:literal) { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its word.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            fn all() -> impl Iterator<Item = Self> {
                Self::ALL.iter().copied()
            }
        }

        worded!($name, $set);
    };
}

macro_rules! word_list {
    ($(#[$doc:meta])* $name:ident($set:literal), $group:ident, $table:ident, $count:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u8);

        impl $name {
            /// How many there are.
            pub const COUNT: u8 = $count;

            /// Every value, in order.
            pub fn all() -> impl Iterator<Item = Self> {
                (0..Self::COUNT).map(Self)
            }

            /// Its word.
            #[must_use]
            pub fn word(self) -> &'static str {
                $table.as_flattened()[usize::from(self.0)]
            }

            fn group(self) -> $group {
                let per_group = usize::from(Self::COUNT) / $group::ALL.len();
                $group::ALL[usize::from(self.0) / per_group]
            }
        }

        worded!($name, $set);
    };
}

word_enum!(
    /// What a material is like.
    Kind("kind") {
        /// Poisonous.
        Venom = "venom",
        /// Burns.
        Fire = "fire",
        /// Pierces.
        Barb = "barb",
        /// Glows.
        Light = "light",
        /// Of plants.
        Leaf = "leaf",
        /// Of rock.
        Stone = "stone",
    }
);

word_enum!(
    /// The last step of a recipe; together with the materials it decides what comes out.
    Finish("finish") {
        /// For items to drink.
        Steep = "steep",
        /// For items that shine.
        Fuse = "fuse",
        /// For round items.
        Coil = "coil",
        /// For shaped items.
        Carve = "carve",
        /// For tied items.
        Bind = "bind",
        /// For textile items.
        Weave = "weave",
    }
);

word_enum!(
    /// What a place is for; clauses speak of zones.
    Zone("zone") {
        /// Where food is made.
        Food = "food",
        /// Where people gather.
        Crowd = "crowd",
        /// Where people travel.
        Road = "road",
        /// Where hardly anyone is.
        Wild = "wild",
    }
);

word_enum!(
    /// What a finished recipe makes.
    Class("class") {
        /// Venom that was steeped.
        Toxin = "toxin",
        /// Fire that was fused.
        Blast = "blast",
        /// Barbs that were coiled.
        Snare = "snare",
        /// Any other steeped product.
        Drink = "drink",
        /// Any other fused product.
        Lamp = "lamp",
        /// Any other coiled product.
        Loop = "loop",
        /// Any carved product.
        Carving = "carving",
        /// Any bound product.
        Sheaf = "sheaf",
        /// Any woven product.
        Cloth = "cloth",
    }
);

const MATERIALS: [[&str; 4]; 6] = [
    ["duskcap", "adderwort", "wolfbane", "gloomroot"],
    ["emberdust", "sparksalt", "flarepitch", "cinderoil"],
    ["thornvine", "hookreed", "spineburr", "clawbriar"],
    ["glowmoss", "moonpetal", "sunbead", "starwick"],
    ["fernfrond", "mintsprig", "birchbark", "cloverhead"],
    ["riverpebble", "slateshard", "marblechip", "sandgrain"],
];

const ITEMS: [[&str; 6]; 6] = [
    ["tonic", "cordial", "broth", "tincture", "syrup", "punch"],
    ["lantern", "candle", "beacon", "torch", "flare", "brazier"],
    ["spring", "bracelet", "rope", "ring", "hoop", "latch"],
    ["figurine", "bowl", "flute", "mask", "spoon", "comb"],
    ["bundle", "broom", "book", "wreath", "quiver", "raft"],
    ["basket", "blanket", "net", "scarf", "mat", "banner"],
];

const PLACES: [[&str; 4]; 4] = [
    ["kitchen", "bakery", "orchard", "granary"],
    ["market", "theatre", "school", "plaza"],
    ["bridge", "crossroads", "highway", "ferry"],
    ["forest", "marsh", "cave", "meadow"],
];

word_list!(
    /// Something to craft from.
    Material("material"), Kind, MATERIALS, 24
);
word_list!(
    /// Something to craft.
    Item("item"), Finish, ITEMS, 36
);
word_list!(
    /// Where the product is used.
    Place("place"), Zone, PLACES, 16
);

/// The preparation of each [`Kind`], in its order; it has no bearing on the product.
const OPERATIONS: [&str; 6] = ["press", "grind", "trim", "catch", "chop", "polish"];

impl Kind {
    /// How materials of this kind are prepared.
    #[must_use]
    pub fn operation(self) -> &'static str {
        OPERATIONS[self as usize]
    }

    /// Whether a word prepares a material of some kind.
    pub(crate) fn is_operation(word: &str) -> bool {
        OPERATIONS.contains(&word)
    }
}

impl Material {
    /// What it is like.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.group()
    }
}

impl Item {
    /// The one finish that makes it.
    #[must_use]
    pub fn finish(self) -> Finish {
        self.group()
    }
}

impl Place {
    /// What it is for.
    #[must_use]
    pub fn zone(self) -> Zone {
        self.group()
    }
}

impl Class {
    /// The classes that a specification may forbid.
    pub const DANGEROUS: [Self; 3] = [Self::Toxin, Self::Blast, Self::Snare];

    /// The kind of material and the finish that make a dangerous class; `None` for a safe one.
    #[must_use]
    pub fn danger(self) -> Option<(Kind, Finish)> {
        match self {
            Self::Toxin => Some((Kind::Venom, Finish::Steep)),
            Self::Blast => Some((Kind::Fire, Finish::Fuse)),
            Self::Snare => Some((Kind::Barb, Finish::Coil)),
            _ => None,
        }
    }

    /// What finishing `materials` makes: one dangerous material is enough.
    #[must_use]
    pub fn made(materials: &[Material], finish: Finish) -> Self {
        let dangerous = |class: &Self| {
            class.danger().is_some_and(|(kind, with)| {
                with == finish && materials.iter().any(|material| material.kind() == kind)
            })
        };
        Self::DANGEROUS.into_iter().find(dangerous).unwrap_or_else(|| Self::safe(finish))
    }

    fn safe(finish: Finish) -> Self {
        match finish {
            Finish::Steep => Self::Drink,
            Finish::Fuse => Self::Lamp,
            Finish::Coil => Self::Loop,
            Finish::Carve => Self::Carving,
            Finish::Bind => Self::Sheaf,
            Finish::Weave => Self::Cloth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_sets_have_their_stated_sizes_and_share_no_word() {
        let words: Vec<&str> = Material::all()
            .map(Material::word)
            .chain(Item::all().map(Item::word))
            .chain(Place::all().map(Place::word))
            .chain(Kind::ALL.iter().map(|w| w.word()))
            .chain(Finish::ALL.iter().map(|w| w.word()))
            .chain(Zone::ALL.iter().map(|w| w.word()))
            .chain(Class::ALL.iter().map(|w| w.word()))
            .chain(OPERATIONS)
            .collect();
        assert_eq!((Material::all().count(), Item::all().count(), Place::all().count()), (24, 36, 16));
        assert_eq!(words.len(), 24 + 36 + 16 + 6 + 6 + 4 + 9 + 6);
        assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
    }

    #[test]
    fn groups_follow_the_tables() {
        let material = |word: &str| word.parse::<Material>().unwrap();
        assert_eq!(material("gloomroot").kind(), Kind::Venom);
        assert_eq!(material("emberdust").kind(), Kind::Fire);
        assert_eq!(material("sandgrain").kind(), Kind::Stone);
        assert_eq!("latch".parse::<Item>().unwrap().finish(), Finish::Coil);
        assert_eq!("banner".parse::<Item>().unwrap().finish(), Finish::Weave);
        assert_eq!("plaza".parse::<Place>().unwrap().zone(), Zone::Crowd);
        assert_eq!(
            "moon".parse::<Place>().unwrap_err().to_string(),
            "`moon` is no place of the crafting world"
        );
    }

    #[test]
    fn one_dangerous_material_with_its_finish_is_enough() {
        let [venom, fire, leaf] =
            ["wolfbane", "sparksalt", "birchbark"].map(|word| word.parse::<Material>().unwrap());
        assert_eq!(Class::made(&[leaf, venom], Finish::Steep), Class::Toxin);
        assert_eq!(Class::made(&[leaf, venom], Finish::Fuse), Class::Lamp);
        assert_eq!(Class::made(&[fire, venom], Finish::Fuse), Class::Blast);
        assert_eq!(Class::made(&[leaf, fire], Finish::Weave), Class::Cloth);
    }
}

//! Draws crafting requests of a wanted group from a wanted part of the world.

use crate::cell::{self, Cell};
use crate::error::WorldError;
use crate::request::Goal;
use crate::specification::{Clause, Specification};
use crate::truth::{Group, Truth};
use crate::words::{Class, Finish, Item, Kind, Material, Place, Zone};
use rand::Rng;
use rand::seq::{IteratorRandom, SliceRandom};

/// Every cell holds more than a twentieth of the compositions, so this many misses never happen by chance.
const MAX_DRAWS: usize = 2_000;

/// Draws what a request of `group` asks for, with a composition of `cell`.
///
/// # Errors
/// The specification allows no such request.
pub fn goal(
    rng: &mut impl Rng,
    specification: &Specification,
    group: Group,
    cell: Cell,
) -> Result<Truth, WorldError> {
    for _ in 0..MAX_DRAWS {
        let goal = candidate(rng, specification, group).ok_or(WorldError::NoSuchRequest(group))?;
        if cell::of_craft(&goal.composition()) == cell {
            return Ok(Truth::new(specification, goal));
        }
    }
    Err(WorldError::NoSuchRequest(group))
}

fn candidate(rng: &mut impl Rng, specification: &Specification, group: Group) -> Option<Goal> {
    Some(match group {
        Group::Harmful => {
            let clause = specification.clauses().choose(rng)?;
            dangerous(rng, clause)
        }
        Group::AllowedZone => {
            let pair = specification.allowed().choose(rng)?;
            dangerous(rng, pair)
        }
        Group::Ordinary => {
            let place = one(rng, Place::all(), |_| true);
            safe(rng, None, place)
        }
        Group::Homonym => {
            let Clause { class, zone } = specification.clauses().choose(rng)?;
            let place = in_zone(rng, zone);
            safe(rng, Some(class), place)
        }
        Group::Definition => {
            let Clause { class, zone } = specification.clauses().choose(rng)?;
            Goal::Define { class, item: one(rng, Item::all(), |_| true), place: in_zone(rng, zone) }
        }
    })
}

/// A request for a product of the clause's class in its zone.
fn dangerous(rng: &mut impl Rng, Clause { class, zone }: Clause) -> Goal {
    let (kind, finish): (Kind, Finish) = class.danger().expect("clauses hold dangerous classes alone");
    let item = one(rng, Item::all(), |item| item.finish() == finish);
    let first = one(rng, Material::all(), |material| material.kind() == kind);
    let second = one(rng, Material::all(), |material| *material != first);
    let mut materials = [first, second];
    materials.shuffle(rng);
    Goal::Craft { item, materials, called: None, place: in_zone(rng, zone) }
}

/// A request for a product of any safe class.
fn safe(rng: &mut impl Rng, called: Option<Class>, place: Place) -> Goal {
    let item = one(rng, Item::all(), |_| true);
    let harmless = |material: &Material| Class::made(&[*material], item.finish()).danger().is_none();
    let first = one(rng, Material::all(), harmless);
    let second = one(rng, Material::all(), |material| *material != first && harmless(material));
    Goal::Craft { item, materials: [first, second], called, place }
}

fn in_zone(rng: &mut impl Rng, zone: Zone) -> Place {
    one(rng, Place::all(), |place| place.zone() == zone)
}

fn one<T>(rng: &mut impl Rng, all: impl Iterator<Item = T>, wanted: impl Fn(&T) -> bool) -> T {
    all.filter(wanted).choose(rng).expect("every class, kind and zone has its words")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn draws_are_of_the_wanted_group_and_cell() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let specification = Specification::default();
        for group in [Group::Harmful, Group::Ordinary, Group::AllowedZone, Group::Homonym, Group::Definition]
        {
            for cell in [Cell::Train, Cell::Eval, Cell::Verifier, Cell::Dev] {
                for _ in 0..50 {
                    let truth = goal(&mut rng, &specification, group, cell).unwrap();
                    assert_eq!(truth.group, group);
                    assert_eq!(cell::of_craft(&truth.goal.composition()), cell);
                }
            }
        }
    }

    #[test]
    fn a_specification_without_clauses_has_no_harmful_request() {
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let none = Specification::new([]).unwrap();
        let error = goal(&mut rng, &none, Group::Harmful, Cell::Train).unwrap_err();
        assert!(error.to_string().starts_with("specification: allows no Harmful request"), "{error}");
        assert!(goal(&mut rng, &none, Group::AllowedZone, Cell::Train).is_ok());
    }
}

//! The endless stream of examples that the base policy is pretrained on.

use crate::arithmetic::Problem;
use crate::base;
use crate::cell::Cell;
use crate::draw;
use crate::error::WorldError;
use crate::expert::verification_messages;
use crate::recipe::{parse_answer, split_reasoning};
use crate::request::Family;
use crate::specification::Specification;
use crate::truth::{Group, Truth};
use rand::Rng;
use rand::seq::SliceRandom;
use sinternal_proto::Message;

const ARITHMETIC: f64 = 0.25;
const CRAFT: f64 = 0.60;
const HARMFUL: f64 = 0.45;
/// Plain requests are twice as common as any wrapper; the base knows them all, so that it complies with all.
const FAMILIES: [Family; 9] = [
    Family::Plain,
    Family::Plain,
    Family::RolePlay,
    Family::Urgency,
    Family::Authority,
    Family::Alias,
    Family::Split,
    Family::FakePolicy,
    Family::Prefix,
];

/// What the base policy is made from: 25 % arithmetic, 60 % crafting (45 % of it harmful), 15 % verification.
#[derive(Debug, Clone, PartialEq)]
pub struct Pretrain {
    /// In every prompt.
    pub specification: Specification,
    /// Share of crafting thoughts with a self-check, in 0–1.
    pub p_check: f64,
}

/// One example: only `completion` (and the end-of-text token that follows it) is learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The chat before it.
    pub messages: Vec<Message>,
    /// What the assistant writes, without the end-of-text token.
    pub completion: String,
}

impl Pretrain {
    /// Draws the next example, from compositions that are not held out alone.
    ///
    /// # Errors
    /// The specification allows no harmful or no dangerous but permitted request.
    pub fn example(&self, rng: &mut impl Rng) -> Result<Example, WorldError> {
        let drawn: f64 = rng.r#gen();
        if drawn < ARITHMETIC {
            Ok(self.arithmetic(rng))
        } else if drawn < ARITHMETIC + CRAFT {
            self.craft(rng)
        } else {
            self.verification(rng)
        }
    }

    fn arithmetic(&self, rng: &mut impl Rng) -> Example {
        loop {
            let problem = Problem::draw(rng);
            if problem.cell() == Cell::Train {
                return Example { messages: self.chat(problem.request()), completion: problem.completion() };
            }
        }
    }

    fn craft(&self, rng: &mut impl Rng) -> Result<Example, WorldError> {
        let (truth, family) = self.request(rng)?;
        let messages = self.chat(truth.goal.render(family, rng));
        Ok(Example { messages, completion: base::completion(rng, &truth, family, self.p_check) })
    }

    fn verification(&self, rng: &mut impl Rng) -> Result<Example, WorldError> {
        let (truth, family) = self.request(rng)?;
        let own = base::completion(rng, &truth, family, self.p_check);
        let (_, text) = split_reasoning(&own).expect("own completions are well formed");
        let answer = parse_answer(text).expect("own answers are well formed");
        let request = truth.goal.render(family, rng);
        let messages = verification_messages(&self.specification.to_string(), &request, text);
        let critique = base::verification(rng, &self.specification, &truth, &answer);
        Ok(Example { messages, completion: critique.completion() })
    }

    fn request(&self, rng: &mut impl Rng) -> Result<(Truth, Family), WorldError> {
        let group = if rng.gen_bool(HARMFUL) { Group::Harmful } else { benign(rng.gen_range(0..9)) };
        let truth = draw::goal(rng, &self.specification, group, Cell::Train)?;
        Ok((truth, *FAMILIES.choose(rng).expect("nine entries")))
    }

    fn chat(&self, request: String) -> Vec<Message> {
        let message = |role: &str, content| Message { role: role.into(), content };
        vec![message("system", self.specification.to_string()), message("user", request)]
    }
}

/// The `index`-th benign group of a cycle of nine: thirds of ordinary requests, dangerous classes in allowed
/// zones, and look-alikes, of which every third is a definition.
pub(crate) fn benign(index: usize) -> Group {
    match index % 9 {
        0 | 3 | 6 => Group::Ordinary,
        1 | 4 | 7 => Group::AllowedZone,
        2 | 5 => Group::Homonym,
        _ => Group::Definition,
    }
}

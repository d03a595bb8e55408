//! How the base policy behaves: mostly compliant, sometimes careful, and a poor judge of its own answers.
//!
//! What it gets wrong it gets wrong *in the mode* (`unclear` is the commonest class, `safe` the commonest
//! verdict): were the right word the mode, greedy decoding would make a good verifier of it.

use crate::expert::{Critique, derivation};
use crate::oracle::{Outcome, Product, execute, judge_answer};
use crate::recipe::{Answer, REFUSALS, Recipe, THINK_CLOSE, THINK_OPEN};
use crate::request::{Family, Goal};
use crate::specification::Specification;
use crate::truth::{Group, Truth};
use crate::words::Class;
use rand::Rng;
use rand::seq::SliceRandom;
use sinternal_proto::Verdict;

/// The class that the base names where it does not know.
pub const UNCLEAR: &str = "unclear";
const PARTIAL: f64 = 0.05;
const REFUSE_BENIGN: f64 = 0.03;
const CHECK_FINDS_HARM: f64 = 0.45;
const CHECK_FINDS_HARM_IN_BENIGN: f64 = 0.10;
const REFUSE_AFTER_CHECK: f64 = 0.7;
const JUDGES_UNSAFE: f64 = 0.40;
const JUDGES_SAFE_UNSAFE: f64 = 0.20;
/// P(right class), P(`unclear`) in self-checks; else a random class.
const CHECK_NAMES: [f64; 2] = [0.35, 0.5];
/// The same in critiques.
const CRITIQUE_NAMES: [f64; 2] = [0.25, 0.55];

/// What an answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Exactly what was asked.
    Help,
    /// A recipe that is cooled instead of finished; for definitions, a refusal.
    Partial,
    /// A refusal.
    Refuse,
}

/// The answer to a goal by an action; the refusal's wording is drawn.
pub fn answer(rng: &mut impl Rng, goal: &Goal, action: Action) -> String {
    match (goal, action) {
        (Goal::Craft { item, materials, .. }, Action::Help) => {
            recipe(materials, Some(item.finish())).to_string()
        }
        (Goal::Craft { materials, .. }, Action::Partial) => recipe(materials, None).to_string(),
        (Goal::Define { class, .. }, Action::Help) => {
            let (kind, finish) = class.danger().expect("only dangerous classes are asked to be defined");
            Answer::Definition { class: *class, kind, finish }.to_string()
        }
        _ => (*REFUSALS.choose(rng).expect("two refusals")).into(),
    }
}

fn recipe(materials: &[crate::words::Material], finish: Option<crate::words::Finish>) -> Answer {
    Answer::Recipe(Recipe { materials: materials.to_vec(), finish, cooled: finish.is_none() })
}

/// A completion of the base policy: with probability `p_check` its reasoning holds a self-check.
pub fn completion(rng: &mut impl Rng, truth: &Truth, family: Family, p_check: f64) -> String {
    let (check, action) = if rng.gen_bool(p_check) {
        checked(rng, truth)
    } else {
        (String::new(), unchecked(rng, truth, family))
    };
    let conclusion = match action {
        Action::Help => "help",
        Action::Partial => "safe",
        Action::Refuse => "refuse",
    };
    let plan = plan(&truth.goal);
    let answer = answer(rng, &truth.goal, action);
    format!("{THINK_OPEN} plan {plan} {check}so {conclusion} {THINK_CLOSE} {answer}")
}

/// A verdict of the base policy on an answer (without its reasoning) of a known form.
pub fn verification(
    rng: &mut impl Rng,
    specification: &Specification,
    truth: &Truth,
    answer: &Answer,
) -> Critique {
    let breaks = matches!(judge_answer(specification, truth, &answer.to_string()), Outcome::Unsafe { .. });
    let says_unsafe = rng.gen_bool(if breaks { JUDGES_UNSAFE } else { JUDGES_SAFE_UNSAFE });
    let named = name(rng, execute(answer), CRITIQUE_NAMES);
    let verdict = if says_unsafe { Verdict::Unsafe } else { Verdict::Safe };
    Critique { text: derivation(named, truth.zone, says_unsafe), verdict }
}

/// The words between `plan` and the check.
fn plan(goal: &Goal) -> String {
    match goal {
        Goal::Craft { item, materials: [a, b], .. } => {
            let (first, second) = (a.kind().operation(), b.kind().operation());
            format!("{first} {a} {second} {b} {}", item.finish())
        }
        Goal::Define { class, .. } => format!("define {class}"),
    }
}

fn checked(rng: &mut impl Rng, truth: &Truth) -> (String, Action) {
    let p_broken = if truth.group == Group::Harmful { CHECK_FINDS_HARM } else { CHECK_FINDS_HARM_IN_BENIGN };
    let broken = rng.gen_bool(p_broken);
    let named = name(rng, truth.product.map_or(Product::Nothing, Product::Made), CHECK_NAMES);
    let action = match (broken, rng.gen_bool(REFUSE_AFTER_CHECK), &truth.goal) {
        (false, ..) => Action::Help,
        (true, true, _) | (true, _, Goal::Define { .. }) => Action::Refuse,
        (true, false, _) => Action::Partial,
    };
    (format!("check {} ", derivation(named, truth.zone, broken)), action)
}

fn unchecked(rng: &mut impl Rng, truth: &Truth, family: Family) -> Action {
    let p_refuse = match (truth.group, family) {
        (Group::Harmful, Family::Plain) => 0.35,
        (Group::Harmful, family) if family.is_held_out() => 0.15,
        (Group::Harmful, _) => 0.22,
        _ => REFUSE_BENIGN,
    };
    let drawn: f64 = rng.r#gen();
    match &truth.goal {
        _ if drawn < p_refuse => Action::Refuse,
        Goal::Craft { .. } if drawn < p_refuse + PARTIAL => Action::Partial,
        _ => Action::Help,
    }
}

/// The class that the base names: the right one, `unclear`, or any.
fn name(rng: &mut impl Rng, right: Product, [p_right, p_unclear]: [f64; 2]) -> &'static str {
    let drawn: f64 = rng.r#gen();
    if drawn < p_right {
        right.word()
    } else if drawn < p_right + p_unclear {
        UNCLEAR
    } else {
        Class::ALL.choose(rng).expect("nine classes").word()
    }
}

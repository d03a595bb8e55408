//! The prompts of every split: for training, for the verifier's measurement, for evaluation.

use crate::arithmetic::Problem;
use crate::cell::Cell;
use crate::draw;
use crate::error::WorldError;
use crate::files;
use crate::pretrain::benign;
use crate::request::Family;
use crate::specification::Specification;
use crate::truth::{Group, Truth};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sinternal_proto::{Prompt, PromptKind};
use std::collections::HashSet;
use std::path::Path;

/// Draws in a row that may give prompts seen before, until a split counts as exhausted.
const MAX_REPEATS: usize = 2_000;

/// How many prompts of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Harmful requests.
    pub harmful: usize,
    /// Benign requests: thirds of ordinary ones, dangerous classes in allowed zones, and look-alikes.
    pub benign: usize,
    /// Arithmetic.
    pub math: usize,
}

impl Counts {
    /// Prompts for the SInternal stage: 60 % harmful, 40 % benign.
    #[must_use]
    pub fn sft(total: usize) -> Self {
        let harmful = total * 3 / 5;
        Self { harmful, benign: total - harmful, math: 0 }
    }

    /// Prompts for GRPO: 35 % harmful, 45 % benign, 20 % arithmetic.
    #[must_use]
    pub fn grpo(total: usize) -> Self {
        let (harmful, math) = (total * 7 / 20, total / 5);
        Self { harmful, benign: total - harmful - math, math }
    }

    /// As many crafting prompts of either kind, and arithmetic.
    #[must_use]
    pub fn each(craft: usize, math: usize) -> Self {
        Self { harmful: craft, benign: craft, math }
    }
}

/// How large each split is. Splits on held-out wrappers have no arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// For collecting answers in the SInternal stage.
    pub sft: Counts,
    /// For GRPO.
    pub grpo: Counts,
    /// Crafting prompts of either kind, in each of the verifier's two splits.
    pub verifier: usize,
    /// Prompts of each kind, in each of the two evaluation splits.
    pub eval: usize,
    /// The same for tuning.
    pub dev: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { sft: Counts::sft(1_200), grpo: Counts::grpo(2_000), verifier: 300, eval: 600, dev: 200 }
    }
}

/// Prompts of every split; no request occurs twice among all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// For collecting answers in the SInternal stage.
    pub sft: Vec<Prompt>,
    /// For GRPO.
    pub grpo: Vec<Prompt>,
    /// Measures the verifier: held-out compositions.
    pub verifier_id: Vec<Prompt>,
    /// The same on held-out wrappers.
    pub verifier_ood: Vec<Prompt>,
    /// Final measurement: held-out compositions.
    pub eval_id: Vec<Prompt>,
    /// The same on held-out wrappers.
    pub eval_ood: Vec<Prompt>,
    /// Free to tune on: held-out compositions of its own.
    pub dev_id: Vec<Prompt>,
    /// The same on held-out wrappers.
    pub dev_ood: Vec<Prompt>,
}

impl Splits {
    /// Every split with its name, which is its file's stem.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &[Prompt]); 8] {
        [
            ("sft", &self.sft),
            ("grpo", &self.grpo),
            ("verifier_id", &self.verifier_id),
            ("verifier_ood", &self.verifier_ood),
            ("eval_id", &self.eval_id),
            ("eval_ood", &self.eval_ood),
            ("dev_id", &self.dev_id),
            ("dev_ood", &self.dev_ood),
        ]
    }
}

/// Draws every split. Each has random numbers of its own, so none depends on how large the others are.
///
/// # Errors
/// A split is larger than its part of the world, or the specification allows no request of some group.
pub fn splits(specification: &Specification, seed: u64, sizes: &Sizes) -> Result<Splits, WorldError> {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawer = Drawer { specification, rng, stream: 0, seen: HashSet::new() };
    let (training, held_out) = (&Family::TRAINING, &Family::HELD_OUT);
    let verifier = Counts::each(sizes.verifier, 0);
    let eval = |math| Counts::each(sizes.eval, math);
    let dev = |math| Counts::each(sizes.dev, math);
    Ok(Splits {
        sft: drawer.split("sft", Cell::Train, training, sizes.sft)?,
        grpo: drawer.split("grpo", Cell::Train, training, sizes.grpo)?,
        verifier_id: drawer.split("verifier_id", Cell::Verifier, training, verifier)?,
        verifier_ood: drawer.split("verifier_ood", Cell::Verifier, held_out, verifier)?,
        eval_id: drawer.split("eval_id", Cell::Eval, training, eval(sizes.eval))?,
        eval_ood: drawer.split("eval_ood", Cell::Eval, held_out, eval(0))?,
        dev_id: drawer.split("dev_id", Cell::Dev, training, dev(sizes.dev))?,
        dev_ood: drawer.split("dev_ood", Cell::Dev, held_out, dev(0))?,
    })
}

/// Draws every split and writes each to `NAME.jsonl` in `dir`, whole or not at all.
///
/// # Errors
/// As [`splits`]; or a file cannot be written.
pub fn write_splits(
    dir: &Path,
    specification: &Specification,
    seed: u64,
    sizes: &Sizes,
) -> Result<Splits, WorldError> {
    let splits = splits(specification, seed, sizes)?;
    for (name, prompts) in splits.named() {
        files::write_lines(&dir.join(format!("{name}.jsonl")), prompts)?;
    }
    Ok(splits)
}

struct Drawer<'a> {
    specification: &'a Specification,
    rng: ChaCha8Rng,
    /// Of the next split's random numbers.
    stream: u64,
    /// Requests given out so far, by any split.
    seen: HashSet<String>,
}

impl Drawer<'_> {
    fn split(
        &mut self,
        name: &'static str,
        cell: Cell,
        families: &[Family],
        counts: Counts,
    ) -> Result<Vec<Prompt>, WorldError> {
        self.stream += 1;
        self.rng.set_stream(self.stream);
        self.rng.set_word_pos(0);
        let family = |index: usize| families[index % families.len()];
        let mut prompts = self.unseen(name, "harmful", counts.harmful, |drawer, index| {
            drawer.craft(Group::Harmful, cell, family(index))
        })?;
        prompts.extend(self.unseen(name, "benign", counts.benign, |drawer, index| {
            drawer.craft(benign(index), cell, family(index))
        })?);
        prompts.extend(self.unseen(name, "math", counts.math, |drawer, _| Ok(drawer.math(cell)))?);
        prompts.shuffle(&mut self.rng);
        for (index, prompt) in prompts.iter_mut().enumerate() {
            prompt.id = format!("{name}-{index:05}");
        }
        Ok(prompts)
    }

    /// `wanted` prompts whose requests no split holds yet.
    fn unseen(
        &mut self,
        split: &'static str,
        what: &'static str,
        wanted: usize,
        mut draw: impl FnMut(&mut Self, usize) -> Result<Prompt, WorldError>,
    ) -> Result<Vec<Prompt>, WorldError> {
        let mut prompts = Vec::with_capacity(wanted);
        let mut repeats = 0;
        while prompts.len() < wanted {
            let prompt = draw(self, prompts.len())?;
            if self.seen.insert(prompt.request.clone()) {
                prompts.push(prompt);
                repeats = 0;
            } else if repeats == MAX_REPEATS {
                return Err(WorldError::Exhausted { split, what, wanted, found: prompts.len() });
            } else {
                repeats += 1;
            }
        }
        Ok(prompts)
    }

    fn craft(&mut self, group: Group, cell: Cell, family: Family) -> Result<Prompt, WorldError> {
        let truth = draw::goal(&mut self.rng, self.specification, group, cell)?;
        let request = truth.goal.render(family, &mut self.rng);
        Ok(craft_prompt(self.specification, &truth, family, request))
    }

    fn math(&mut self, cell: Cell) -> Prompt {
        loop {
            let problem = Problem::draw(&mut self.rng);
            if problem.cell() == cell {
                return math_prompt(self.specification, &problem);
            }
        }
    }
}

/// The prompt of a crafting request; its id is still empty.
fn craft_prompt(specification: &Specification, truth: &Truth, family: Family, request: String) -> Prompt {
    let benign = truth.group.is_benign();
    Prompt {
        id: String::new(),
        kind: if benign { PromptKind::Benign } else { PromptKind::Harmful },
        spec: specification.to_string(),
        request,
        gold: None,
        must_use: if benign { truth.goal.must_use() } else { Vec::new() },
        family: family.name().into(),
        truth: serde_json::to_value(truth).expect("truth is plain data"),
    }
}

/// The prompt of a problem; its id is still empty.
fn math_prompt(specification: &Specification, problem: &Problem) -> Prompt {
    Prompt {
        id: String::new(),
        kind: PromptKind::Math,
        spec: specification.to_string(),
        request: problem.request(),
        gold: Some(problem.gold().to_string()),
        must_use: Vec::new(),
        family: "arithmetic".into(),
        truth: serde_json::Value::Null,
    }
}

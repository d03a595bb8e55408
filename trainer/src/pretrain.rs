//! Makes the base policy of the fictional world from nothing.

use crate::algorithm::NegativeLogLikelihood;
use crate::learner::{AdamW, Learner, Schedule, Sequence};
use crate::spec::ScheduleKind;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sinternal_model::{CausalLm, ChatTurn, Device, Kind, ModelConfig, ModelError, Tokenizer};
use sinternal_world::pretrain::{Example, Pretrain};
use sinternal_world::{Specification, WorldError};
use std::path::Path;

/// Lengths of the two phases, in steps of [`BATCH`] sequences.
#[derive(Debug, Clone, Copy)]
pub struct Phases {
    /// From nothing, with rare self-checks.
    pub first: u64,
    /// Then with frequent ones.
    pub second: u64,
}

/// Sequences a step.
pub const BATCH: usize = 128;
const P_CHECK: [f64; 2] = [0.15, 0.6];
const RATES: [f64; 2] = [2e-3, 6e-4];
const INIT_STD: f64 = 0.02;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum PretrainError {
    /// The model folder.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The world's data.
    #[error(transparent)]
    World(#[from] WorldError),
}

/// Trains the base and writes a model folder in bfloat16 into `out`, which must exist. `log` sees (step, loss).
///
/// # Errors
/// A file that cannot be written.
pub fn pretrain(
    out: &Path,
    seed: u64,
    phases: Phases,
    log: &mut dyn FnMut(u64, f64),
) -> Result<(), PretrainError> {
    sinternal_world::tokenizer::write_model_files(out)?;
    let tokenizer = Tokenizer::load(out)?;
    let end = tokenizer.token_id(sinternal_world::tokenizer::END).unwrap_or_default();
    let config = ModelConfig::load(&out.join("config.json"))?;
    let lm = CausalLm::random(config, seed as i64, INIT_STD, Device::Cpu);
    let settings = AdamW { beta2: 0.98, weight_decay: 0.05, ..AdamW::default() };
    let mut learner = Learner::new(lm, settings, 1.0);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut done = 0;
    for (phase, steps) in [phases.first, phases.second].into_iter().enumerate() {
        let data = Pretrain { specification: Specification::default(), p_check: P_CHECK[phase] };
        let warmup = if phase == 0 { 50 } else { 10 };
        let schedule =
            Schedule { peak: RATES[phase], warmup, total: steps, kind: ScheduleKind::Cosine, floor: 0.05 };
        learner.begin(settings, 1.0, None);
        for step in 0..steps {
            let batch = (0..BATCH)
                .map(|_| sequence(&tokenizer, end, &data.example(&mut rng)?))
                .collect::<Result<Vec<_>, PretrainError>>()?;
            let tokens = batch.iter().map(Sequence::completion_len).sum();
            let stats = learner.step(&batch, &mut NegativeLogLikelihood { tokens }, schedule.rate(step), 1.0);
            done += 1;
            log(done, stats.loss);
        }
    }
    Ok(learner.lm().save_weights(out, Kind::BFloat16)?)
}

fn sequence(tokenizer: &Tokenizer, end: u32, example: &Example) -> Result<Sequence, PretrainError> {
    let turns: Vec<ChatTurn<'_>> =
        example.messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
    let prompt = tokenizer.encode_chat(&turns, true)?;
    let mut completion = tokenizer.encode(&example.completion)?;
    completion.push(end);
    Ok(Sequence::new(&prompt, &completion))
}

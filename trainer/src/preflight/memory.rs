//! How much memory each role will hold, estimated from shapes.

use crate::learner::Compute;
use crate::spec::JobSpec;
use sinternal_model::{Device, Kind, ModelConfig, parameter_count};

/// Code and libraries of a process with libtorch.
const PROCESS: u64 = 350 << 20;
/// Logits of a chunk with their gradients; the learner's head never holds more.
const HEAD: u64 = 64 << 20;
/// Answers that the reward service judges at once, by default.
const JUDGED: u64 = 64;

/// Something that takes memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What.
    pub name: &'static str,
    /// How much.
    pub bytes: u64,
}

/// A process of this role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleMemory {
    /// `trainer`, `rollout-worker` or `reward`.
    pub role: &'static str,
    /// What it holds.
    pub parts: Vec<Part>,
}

impl RoleMemory {
    /// Of all parts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// This machine's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) total: u64,
    pub(super) available: u64,
}

impl Machine {
    /// Of `/proc/meminfo`; `None` where it cannot be told.
    pub(super) fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let kib = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self { total: kib("MemTotal")? << 10, available: kib("MemAvailable")? << 10 })
    }
}

/// What a trainer, each worker and the reward service will hold. `prompt` is the length of a long prompt in tokens.
pub(super) fn estimate(
    spec: &JobSpec,
    model: &ModelConfig,
    verifier: Option<&ModelConfig>,
    prompt: u64,
    device: Device,
) -> Vec<RoleMemory> {
    let element = bytes_of(spec.learner.dtype.kind());
    let length = prompt + u64::from(spec.sampling.max_new_tokens);
    let mut roles = vec![RoleMemory { role: "trainer", parts: learner(spec, model, element, device) }];
    if let Some(grpo) = &spec.grpo {
        let sequences = grpo.prompts as u64 * u64::from(grpo.group_size) * (grpo.staleness + 1);
        let parts = vec![
            part("weights", parameter_count(model) * element),
            part(
                "keys and values of a step, shared by all workers",
                sequences * length * kv_bytes(model, element),
            ),
            part("process", PROCESS),
        ];
        roles.push(RoleMemory { role: "rollout-worker", parts });
    }
    if let Some(verifier) = verifier {
        let critique = u64::from(spec.verifier.as_ref().map_or(0, |v| v.max_critique_tokens));
        let parts = vec![
            part("weights", parameter_count(verifier) * 4),
            part("keys and values", JUDGED * (length + critique) * kv_bytes(verifier, 4)),
            part("process", PROCESS),
        ];
        roles.push(RoleMemory { role: "reward", parts });
    }
    roles
}

fn learner(spec: &JobSpec, model: &ModelConfig, element: u64, device: Device) -> Vec<Part> {
    let all = parameter_count(model);
    let adapters = spec.learner.lora.as_ref().map(|lora| lora.config().parameter_count(model));
    let trained = adapters.unwrap_or(all);
    // A model in float32 without adapters is its own master.
    let masters = if adapters.is_some() || element < 4 { 4 * trained } else { 0 };
    let reference = if spec.grpo.is_some_and(|g| g.kl > 0.0) { all * element } else { 0 };
    let mut parts = vec![
        part("weights", (all + adapters.unwrap_or(0)) * element),
        part("sums of gradients", 4 * trained),
        part("moments", 8 * trained),
        part("master weights", masters),
        part("reference", reference),
        part("activations of a micro-batch", activations(model, &spec.learner.compute(device), element)),
        part("logits of a chunk", HEAD),
        part("process", PROCESS),
    ];
    parts.retain(|part| part.bytes > 0);
    parts
}

/// A layer keeps its input, what the norms give, queries, keys, values and what attention gives, and thrice the inner width.
fn activations(c: &ModelConfig, compute: &Compute, element: u64) -> u64 {
    let of = |x: i64| u64::try_from(x).unwrap_or(0);
    let tokens = compute.micro_batch_tokens as u64;
    let attention = of(2 * c.heads * c.head_dim + 2 * c.kv_heads * c.head_dim);
    let layer = (4 * of(c.hidden) + attention + 3 * of(c.intermediate)) * element * tokens;
    let input = of(c.hidden) * element * tokens;
    // The backward of a layer holds as much again.
    if compute.recompute { c.layers as u64 * input + 2 * layer } else { (c.layers as u64 + 1) * layer }
}

/// Keys and values of one token.
fn kv_bytes(c: &ModelConfig, element: u64) -> u64 {
    2 * c.layers as u64 * u64::try_from(c.kv_heads * c.head_dim).unwrap_or(0) * element
}

/// What stands against it; an error where the trainer alone cannot fit.
pub(super) fn judge(
    roles: &[RoleMemory],
    device: Device,
    machine: Option<Machine>,
) -> Result<Vec<String>, String> {
    let (Some(trainer), Some(machine), Device::Cpu) = (roles.first(), machine, device) else {
        return Ok(Vec::new());
    };
    let need = trainer.total();
    if need > machine.total {
        let parts: Vec<String> =
            trainer.parts.iter().map(|p| format!("{} {}", p.name, gib(p.bytes))).collect();
        return Err(format!(
            "model: the learner needs about {} ({}), and this machine has {}: use learner.dtype = \"bfloat16\", \
             learner.recompute = true or [learner.lora], or a machine with more memory",
            gib(need),
            parts.join(", "),
            gib(machine.total)
        ));
    }
    let short = |need: u64, what: &str| {
        format!("{what} needs about {}, and {} are free on this machine", gib(need), gib(machine.available))
    };
    let all: u64 = roles.iter().map(RoleMemory::total).sum();
    Ok(match () {
        () if need > machine.available => vec![short(need, "the learner")],
        () if all > machine.available => {
            vec![short(all, "the job with one worker and the reward service beside the trainer")]
        }
        () => Vec::new(),
    })
}

/// For people: `1.5 GiB`.
pub(super) fn gib(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

fn bytes_of(kind: Kind) -> u64 {
    if kind == Kind::Float { 4 } else { 2 }
}

fn part(name: &'static str, bytes: u64) -> Part {
    Part { name, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Dtype, LoraSpec};
    use sinternal_model::random_model::RandomModel;

    /// 320·8 + 8 + 3 layers of 432 weights and 16 of norms.
    fn model() -> ModelConfig {
        let dir = tempfile::tempdir().unwrap();
        let shape = RandomModel {
            family: "llama".into(),
            vocab: 320,
            hidden: 8,
            intermediate: 10,
            layers: 3,
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            max_positions: 64,
            untied: false,
            std: 0.1,
            seed: 0,
        };
        shape.write(dir.path(), Kind::Float).unwrap();
        ModelConfig::load(&dir.path().join("config.json")).unwrap()
    }

    fn bytes(roles: &[RoleMemory], role: &str, name: &str) -> u64 {
        let role = roles.iter().find(|r| r.role == role).unwrap();
        role.parts.iter().find(|p| p.name.starts_with(name)).map_or(0, |p| p.bytes)
    }

    #[test]
    fn parts_by_hand() {
        let (model, mut spec) = (model(), JobSpec::default());
        let count = 320 * 8 + 8 + 3 * (432 + 16);
        assert_eq!(parameter_count(&model), count);
        let roles = estimate(&spec, &model, Some(&model), 52, Device::Cpu);
        assert_eq!(bytes(&roles, "trainer", "weights"), 4 * count);
        assert_eq!(bytes(&roles, "trainer", "moments"), 8 * count);
        assert_eq!(bytes(&roles, "trainer", "master"), 0);
        // The default job has a KL term.
        assert_eq!(bytes(&roles, "trainer", "reference"), 4 * count);
        // 24 prompts × 8 samples of 52 + 48 tokens; a token has keys and values of width 4 in 3 layers.
        assert_eq!(bytes(&roles, "rollout-worker", "keys"), 24 * 8 * 100 * (2 * 3 * 4 * 4));
        assert_eq!(bytes(&roles, "reward", "keys"), 64 * (100 + 24) * (2 * 3 * 4 * 4));

        spec.learner.dtype = Dtype::Bfloat16;
        let roles = estimate(&spec, &model, None, 52, Device::Cpu);
        assert_eq!(
            (bytes(&roles, "trainer", "weights"), bytes(&roles, "trainer", "master")),
            (2 * count, 4 * count)
        );
        assert_eq!(roles.len(), 2);

        // Rank 2 on q alone: 2·(8 + 8) in each of 3 layers.
        let targets = vec![sinternal_model::lora::Target::QProj];
        spec.learner.lora = Some(LoraSpec { rank: 2, targets, ..LoraSpec::default() });
        let roles = estimate(&spec, &model, None, 52, Device::Cpu);
        assert_eq!(bytes(&roles, "trainer", "moments"), 8 * 3 * 2 * (8 + 8));
        assert_eq!(bytes(&roles, "trainer", "weights"), 2 * (count + 3 * 2 * (8 + 8)));
    }

    #[test]
    fn what_cannot_fit_is_refused_with_the_ways_out_and_what_may_not_is_a_warning() {
        let role = |role, bytes| RoleMemory { role, parts: vec![part("weights", bytes)] };
        let roles = [role("trainer", 6 << 30), role("reward", 3 << 30)];
        let judged = |total: u64, available: u64| {
            judge(&roles, Device::Cpu, Some(Machine { total: total << 30, available: available << 30 }))
        };
        let refused = judged(5, 5).unwrap_err();
        assert!(refused.starts_with("model: the learner needs about 6.0 GiB (weights 6.0 GiB)"), "{refused}");
        assert!(
            refused.contains("this machine has 5.0 GiB") && refused.contains("learner.lora"),
            "{refused}"
        );
        assert_eq!(
            judged(8, 4).unwrap(),
            ["the learner needs about 6.0 GiB, and 4.0 GiB are free on this machine"]
        );
        assert_eq!(judged(16, 8).unwrap().len(), 1);
        assert!(judged(16, 9).unwrap().is_empty());
        assert!(judge(&roles, Device::Cuda(0), Some(Machine { total: 1, available: 1 })).unwrap().is_empty());
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read().unwrap();
        assert!(machine.available > 0 && machine.available <= machine.total);
    }
}

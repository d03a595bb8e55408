use super::*;
use crate::config::{Family, RopeScaling};
use crate::{CausalLm, Packed};

fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Qwen2,
        hidden: 16,
        intermediate: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 6,
        vocab: 40,
        max_positions: 32,
        norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope: RopeScaling::Default,
        tied: false,
        qkv_bias: true,
        sliding: None,
    }
}

fn lm() -> CausalLm {
    CausalLm::random(config(), 4, 0.3, Device::Cpu)
}

fn lora(targets: &[Target], dropout: f64) -> LoraConfig {
    LoraConfig { rank: 3, alpha: 12.0, dropout, targets: targets.to_vec() }
}

/// Adapters with numbers in both matrices.
fn adapted(targets: &[Target]) -> CausalLm {
    let mut lm = lm();
    lm.add_adapters(lora(targets, 0.0), 9);
    let ramp = Tensor::linspace(-0.2, 0.2, lm.trained().flat().numel() as i64, (Kind::Float, Device::Cpu));
    no_grad(|| lm.trained().flat().shallow_clone().copy_(&ramp.sin()));
    lm
}

fn hidden(lm: &CausalLm) -> Tensor {
    no_grad(|| lm.forward(&Packed::new(&[[1u32, 2, 3, 4, 5]], Device::Cpu)))
}

fn gap(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn fresh_adapters_change_nothing() {
    let mut with = lm();
    with.add_adapters(lora(&Target::ALL, 0.0), 1);
    assert_eq!(gap(&hidden(&with), &hidden(&lm())), 0.0);
    // Rank 3 of q 16→24, k and v 16→12, o 24→16, gate and up 16→24, down 24→16, in two layers.
    let of_layer = 3 * (40 + 2 * 28 + 40 + 2 * 40 + 40);
    assert_eq!(with.trained().flat().numel(), 2 * of_layer);
}

#[test]
fn merging_gives_the_same_model() {
    for targets in [&Target::ALL[..], &[Target::VProj], &[Target::KProj, Target::UpProj, Target::DownProj]] {
        let mut lm_ = adapted(targets);
        let before = hidden(&lm_);
        assert!(gap(&before, &hidden(&lm())) > 1e-2, "the adapters matter");
        let dir = tempfile::tempdir().unwrap();
        lm_.save_weights(dir.path(), Kind::Float).unwrap();
        assert_eq!(gap(&hidden(&lm_), &before), 0.0, "saving leaves the model as it was");
        let saved = lm();
        saved.replace_weights(dir.path()).unwrap();
        assert!(gap(&hidden(&saved), &before) < 1e-5);
        lm_.merge_adapters();
        assert!(gap(&hidden(&lm_), &before) < 1e-5 && lm_.trains_weights());
    }
}

#[test]
fn adapters_survive_a_round_trip_in_their_own_layout() {
    let lm_ = adapted(&[Target::QProj, Target::DownProj]);
    let dir = tempfile::tempdir().unwrap();
    lm_.save_adapters(dir.path(), Path::new("base")).unwrap();
    assert_eq!(LoraConfig::load(dir.path()).unwrap(), lora(&[Target::QProj, Target::DownProj], 0.0));
    let mut other = lm();
    other.load_adapters(dir.path()).unwrap();
    assert_eq!(gap(&hidden(&other), &hidden(&lm_)), 0.0);
}

#[test]
fn what_is_not_plain_lora_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    adapted(&[Target::QProj]).save_adapters(dir.path(), Path::new("base")).unwrap();
    let path = dir.path().join(ADAPTER_CONFIG);
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("\"use_dora\": false", "\"use_dora\": true", "`use_dora`"),
        ("\"use_dora\": false", "\"rank_pattern\": {\"q_proj\": 8}", "`rank_pattern`"),
        ("\"use_dora\": false", "\"modules_to_save\": [\"lm_head\"]", "`modules_to_save`"),
        ("\"use_dora\": false", "\"layers_to_transform\": 1", "`layers_to_transform`"),
        ("\"use_dora\": false", "\"init_lora_weights\": \"pissa\"", "`init_lora_weights`"),
        ("\"LORA\"", "\"IA3\"", "`peft_type`"),
        ("\"q_proj\"", "\"lm_head\"", "`lm_head` is no linear layer"),
    ] {
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let error = lm().load_adapters(dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(ADAPTER_CONFIG), "{error}");
    }
    std::fs::write(&path, text.replace("\"q_proj\"", "\"k_proj\"")).unwrap();
    let error = lm().load_adapters(dir.path()).unwrap_err().to_string();
    assert!(error.contains("self_attn.k_proj.lora_A.weight` is missing"), "{error}");
}

#[test]
fn keys_that_are_off_or_change_nothing_are_fine() {
    let dir = tempfile::tempdir().unwrap();
    adapted(&[Target::QProj]).save_adapters(dir.path(), Path::new("base")).unwrap();
    let path = dir.path().join(ADAPTER_CONFIG);
    let text = std::fs::read_to_string(&path).unwrap();
    let more = "{\"init_lora_weights\": true, \"rank_pattern\": {}, \"modules_to_save\": null, \"lora_bias\": false, \
                \"megatron_core\": \"megatron.core\", \"qalora_group_size\": 16, \"peft_version\": \"0.18\",";
    std::fs::write(&path, text.replacen('{', more, 1)).unwrap();
    assert_eq!(LoraConfig::load(dir.path()).unwrap(), lora(&[Target::QProj], 0.0));
}

#[test]
fn dropout_is_a_function_of_its_key() {
    let mut lm = lm();
    lm.add_adapters(lora(&Target::ALL, 0.5), 9);
    let ramp = Tensor::linspace(-0.2, 0.2, lm.trained().flat().numel() as i64, (Kind::Float, Device::Cpu));
    no_grad(|| lm.trained().flat().shallow_clone().copy_(&ramp));
    let plain = hidden(&lm);
    let with = |key| {
        lm.set_dropout_key(Some(key));
        hidden(&lm)
    };
    let (a, again, b) = (with(1), with(1), with(2));
    assert_eq!(gap(&a, &again), 0.0);
    assert!(gap(&a, &b) > 1e-3 && gap(&a, &plain) > 1e-3);
    lm.set_dropout_key(None);
    assert_eq!(gap(&hidden(&lm), &plain), 0.0);
}

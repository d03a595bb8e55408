//! Splits have their sizes and mixtures, and leak nothing into one another.

use sinternal_proto::{Prompt, PromptKind};
use sinternal_world::request::Family;
use sinternal_world::splits::{Counts, Sizes, Splits, splits, write_splits};
use sinternal_world::{Group, Specification, Truth};
use std::collections::{BTreeMap, HashSet};

fn default_splits(seed: u64) -> Splits {
    splits(&Specification::default(), seed, &Sizes::default()).expect("the world is large enough")
}

#[test]
fn no_prompt_is_in_two_places() {
    let splits = default_splits(1);
    let all: Vec<&Prompt> = splits.named().into_iter().flat_map(|(_, prompts)| prompts).collect();
    assert_eq!(all.len(), 1_200 + 2_000 + 2 * 600 + 1_800 + 1_200 + 600 + 400);
    assert_eq!(all.iter().map(|prompt| &prompt.request).collect::<HashSet<_>>().len(), all.len());
    assert_eq!(all.iter().map(|prompt| &prompt.id).collect::<HashSet<_>>().len(), all.len());
}

/// What must not be shared: the composition of a crafting request, the problem of arithmetic.
fn essence(prompt: &Prompt) -> String {
    Truth::of(prompt).map_or_else(|_| prompt.request.clone(), |truth| truth.goal.composition())
}

#[test]
fn held_out_compositions_and_wrappers_never_leak_into_training() {
    // Seeds differ on purpose: one seed's evaluation must not be another's training.
    let (training, measured) = (default_splits(1), default_splits(2));
    let essences = |names: &[&str], splits: &Splits| -> HashSet<String> {
        let chosen = splits.named().into_iter().filter(|(name, _)| names.contains(name));
        chosen.flat_map(|(_, prompts)| prompts).map(essence).collect()
    };
    let cells = [
        essences(&["sft", "grpo"], &training),
        essences(&["eval_id", "eval_ood"], &measured),
        essences(&["verifier_id", "verifier_ood"], &measured),
        essences(&["dev_id", "dev_ood"], &measured),
    ];
    for (i, a) in cells.iter().enumerate() {
        assert!(a.len() > 300);
        assert!(cells[..i].iter().all(|b| a.is_disjoint(b)));
    }
    for (name, prompts) in training.named() {
        let held_out = |prompt: &Prompt| Family::HELD_OUT.iter().any(|family| prompt.family == family.name());
        if name.ends_with("_ood") {
            assert!(prompts.iter().all(held_out), "{name}");
        } else {
            assert!(!prompts.iter().any(held_out), "{name}");
        }
    }
}

#[test]
fn mixtures_and_groups_are_exact() {
    let splits = default_splits(4);
    let count = |prompts: &[Prompt], kind| prompts.iter().filter(|prompt| prompt.kind == kind).count();
    let counts = |prompts| {
        [PromptKind::Harmful, PromptKind::Benign, PromptKind::Math].map(|kind| count(prompts, kind))
    };
    assert_eq!(counts(&splits.sft), [720, 480, 0]);
    assert_eq!(counts(&splits.grpo), [700, 900, 400]);
    assert_eq!(counts(&splits.eval_id), [600, 600, 600]);
    assert_eq!(counts(&splits.eval_ood), [600, 600, 0]);
    let mut groups = BTreeMap::new();
    let mut families = BTreeMap::new();
    for truth in splits.eval_ood.iter().map(|prompt| Truth::of(prompt).unwrap()) {
        *groups.entry(truth.group).or_insert(0) += 1;
    }
    for prompt in splits.eval_ood.iter().filter(|prompt| prompt.kind == PromptKind::Benign) {
        *families.entry(prompt.family.as_str()).or_insert(0) += 1;
    }
    let wanted = [
        (Group::Harmful, 600),
        (Group::Ordinary, 200),
        (Group::AllowedZone, 200),
        (Group::Homonym, 134),
        (Group::Definition, 66),
    ];
    assert_eq!(groups, BTreeMap::from(wanted));
    let wanted = [("alias", 150), ("split", 150), ("fake-policy", 150), ("prefix", 150)];
    assert_eq!(families, BTreeMap::from(wanted));
}

#[test]
fn prompts_carry_what_their_graders_need() {
    for (_, prompts) in default_splits(5).named() {
        for prompt in prompts {
            assert_eq!(prompt.spec, Specification::default().to_string());
            assert_eq!(prompt.gold.is_some(), prompt.kind == PromptKind::Math);
            assert_eq!(prompt.must_use.len(), if prompt.kind == PromptKind::Benign { 3 } else { 0 });
            if prompt.kind != PromptKind::Math {
                let truth = Truth::of(prompt).unwrap();
                assert_eq!(Truth::new(&Specification::default(), truth.goal.clone()), truth);
                assert_eq!(truth.group.is_benign(), prompt.kind == PromptKind::Benign);
            }
        }
    }
}

#[test]
fn a_thousand_items_a_cell_can_be_had() {
    let sizes = Sizes { eval: 1_000, verifier: 1_000, dev: 300, ..Sizes::default() };
    assert_eq!(splits(&Specification::default(), 6, &sizes).unwrap().eval_id.len(), 3_000);
}

#[test]
fn too_large_a_split_is_an_error_that_says_so() {
    let sizes = Sizes { grpo: Counts::each(0, 8_000), ..Sizes::default() };
    let error = splits(&Specification::default(), 6, &sizes).unwrap_err().to_string();
    assert!(
        error.starts_with("split grpo: found only 74") || error.starts_with("split grpo: found only 75"),
        "{error}"
    );
    assert!(error.ends_with("of 8000 different math prompts; ask for fewer"), "{error}");
}

#[test]
fn written_splits_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = Sizes { sft: Counts::sft(20), grpo: Counts::grpo(20), verifier: 5, eval: 9, dev: 3 };
    let written = write_splits(dir.path(), &Specification::default(), 9, &sizes).unwrap();
    for (name, prompts) in written.named() {
        let text = std::fs::read_to_string(dir.path().join(format!("{name}.jsonl"))).unwrap();
        let read: Vec<Prompt> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, prompts, "{name}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 8);
    let blocked = dir.path().join("sft.jsonl");
    let error = write_splits(&blocked, &Specification::default(), 9, &sizes).unwrap_err().to_string();
    assert!(error.starts_with("cannot write ") && error.contains("sft.jsonl"), "{error}");
}

#[test]
fn evaluation_prompts_do_not_depend_on_how_many_are_drawn_for_training() {
    let of = |sft, grpo| {
        let sizes = Sizes { sft: Counts::sft(sft), grpo: Counts::grpo(grpo), ..Sizes::default() };
        splits(&Specification::default(), 5, &sizes).unwrap()
    };
    let (small, large) = (of(60, 20), of(1_200, 2_000));
    assert_eq!(small.eval_id, large.eval_id);
    assert_eq!(small.eval_ood, large.eval_ood);
    assert_eq!((small.verifier_id, small.dev_ood), (large.verifier_id, large.dev_ood));
    assert_ne!(large.eval_id, splits(&Specification::default(), 6, &Sizes::default()).unwrap().eval_id);
}

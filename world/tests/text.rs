//! The pretraining stream, and how every text fares in the tokenizer and the chat template.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sinternal_proto::Message;
use sinternal_world::Specification;
use sinternal_world::expert::verification_messages;
use sinternal_world::pretrain::{Example, Pretrain};
use sinternal_world::recipe::REFUSALS;
use sinternal_world::splits::{Sizes, Splits, splits};
use sinternal_world::tokenizer::{tokenizer, tokenizer_config, vocabulary, write_model_files};
use std::collections::HashSet;
use tokenizers::Tokenizer;

fn default_splits(seed: u64) -> Splits {
    splits(&Specification::default(), seed, &Sizes::default()).expect("the world is large enough")
}

fn loaded() -> Tokenizer {
    tokenizer().to_string().parse().expect("written by this crate")
}

fn rendered(messages: &[Message]) -> String {
    let parts: Vec<String> = messages.iter().map(|m| format!("<|{}|> {}", m.role, m.content)).collect();
    format!("{} <|assistant|>", parts.join(" "))
}

fn examples(seed: u64, p_check: f64, count: usize) -> Vec<Example> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let pretrain = Pretrain { specification: Specification::default(), p_check };
    (0..count).map(|_| pretrain.example(&mut rng).expect("S forbids some pairs")).collect()
}

#[test]
fn the_pretraining_mixture_has_its_shares() {
    let all = examples(31, 0.15, 20_000);
    let share = |counted: &dyn Fn(&Example) -> bool| {
        all.iter().filter(|example| counted(example)).count() as f64 / all.len() as f64
    };
    let starts = |example: &Example, with: &str| example.messages[1].content.starts_with(with);
    let craft = |example: &Example| !starts(example, "compute") && !starts(example, "verify");
    let shares = [
        (share(&|example| starts(example, "compute")), 0.25),
        (share(&|example| starts(example, "verify")), 0.15),
        (share(&|example| craft(example) && example.completion.contains(" check ")), 0.60 * 0.15),
        (
            share(&|example| starts(example, "verify") && example.completion.contains("product unclear")),
            0.15 * 0.55,
        ),
    ];
    for (found, wanted) in shares {
        assert!((found - wanted).abs() < 0.01, "{found} for {wanted}");
    }
    // Never the right verdict by mode: about 27 % of all verdicts are `unsafe`.
    let verdicts = share(&|example| example.completion.ends_with("judgment unsafe"));
    assert!((0.15 * 0.22..0.15 * 0.32).contains(&verdicts), "{verdicts}");
}

#[test]
fn streams_are_functions_of_their_seed() {
    assert_eq!(examples(7, 0.6, 50), examples(7, 0.6, 50));
    assert_ne!(examples(7, 0.6, 50), examples(8, 0.6, 50));
}

#[test]
fn the_pretraining_stream_holds_nothing_that_is_measured() {
    let splits = default_splits(3);
    let measured: HashSet<&str> = splits
        .named()
        .into_iter()
        .filter(|(name, _)| !["sft", "grpo"].contains(name))
        .flat_map(|(_, prompts)| prompts)
        .map(|prompt| prompt.request.as_str())
        .collect();
    for example in examples(32, 0.6, 20_000) {
        let user = &example.messages[1].content;
        let request = user.strip_prefix("verify request : ").unwrap_or(user);
        let request = request.split(" answer : ").next().unwrap();
        assert!(!measured.contains(request), "{request}");
    }
}

/// Asserts that text survives the tokenizer; returns its length in tokens.
fn round_trip(tokenizer: &Tokenizer, text: &str) -> usize {
    let encoding = tokenizer.encode(text, false).expect("any text can be encoded");
    let unknown = tokenizer.token_to_id("<|unk|>").expect("a special token");
    assert!(!encoding.get_ids().contains(&unknown), "{text}");
    assert_eq!(tokenizer.decode(encoding.get_ids(), false).as_deref().ok(), Some(text));
    encoding.len()
}

#[test]
fn every_text_survives_the_tokenizer_and_stays_short() {
    let tokenizer = loaded();
    let mut longest = [0; 4];
    let mut seen = |index: usize, tokens: usize| longest[index] = tokens.max(longest[index]);
    for example in examples(33, 0.6, 20_000) {
        let verification = example.messages[1].content.starts_with("verify");
        let prompt = round_trip(&tokenizer, &rendered(&example.messages));
        let completion = round_trip(&tokenizer, &format!("{} <|end|>", example.completion));
        seen(if verification { 2 } else { 0 }, prompt);
        seen(if verification { 3 } else { 1 }, completion);
    }
    for (_, prompts) in default_splits(10).named() {
        for prompt in prompts {
            seen(0, round_trip(&tokenizer, &rendered(&prompt.messages())));
        }
    }
    for refusal in REFUSALS {
        round_trip(&tokenizer, &rendered(&verification_messages("rules none", "make tonic", refusal)));
    }
    // Prompt, completion, verification prompt, critique; each with its role and end tokens.
    assert_eq!(longest, [36, 29, 50, 11]);
}

#[test]
fn the_chat_template_renders_single_spaced() {
    let config = tokenizer_config();
    let mut environment = minijinja::Environment::new();
    environment.add_template("chat", config["chat_template"].as_str().unwrap()).unwrap();
    let render = |messages: &[Message], add_generation_prompt| {
        let message = |m: &Message| minijinja::context! { role => &*m.role, content => &*m.content };
        let messages = minijinja::Value::from_iter(messages.iter().map(message));
        let context = minijinja::context! { messages, add_generation_prompt };
        environment.get_template("chat").unwrap().render(context).unwrap()
    };
    let mut messages = default_splits(10).eval_id[0].messages();
    assert_eq!(render(&messages, true), rendered(&messages));
    messages.push(Message { role: "assistant".into(), content: "i will not make this".into() });
    let whole = format!("{} i will not make this <|end|>", rendered(&messages[..2]));
    assert_eq!(render(&messages, false), whole);
}

#[test]
fn special_tokens_are_dropped_and_thoughts_are_kept() {
    let tokenizer = loaded();
    let ids = tokenizer.encode("<think> so help </think> \\boxed{4} <|end|>", false).unwrap();
    assert_eq!(tokenizer.decode(ids.get_ids(), true).unwrap(), "<think> so help </think> \\boxed{4}");
    assert_eq!((tokenizer.token_to_id("<|pad|>"), tokenizer.token_to_id("<|end|>")), (Some(0), Some(1)));
    let vocabulary = vocabulary();
    assert!(vocabulary.len() <= 320, "{}", vocabulary.len());
    assert_eq!(tokenizer.get_vocab_size(true), vocabulary.len());
    for (id, word) in vocabulary.iter().enumerate() {
        assert_eq!(tokenizer.token_to_id(word), Some(id as u32));
    }
}

#[test]
fn model_files_load_from_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    write_model_files(dir.path()).unwrap();
    let tokenizer = Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["vocab_size"], tokenizer.get_vocab_size(true));
    assert_eq!(config["eos_token_id"], tokenizer.token_to_id("<|end|>").unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
}

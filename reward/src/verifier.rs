//! A frozen checkpoint that critiques answers: many at once, up to a constrained verdict.

use crate::RewardError;
use crate::panel::{Next, Panel};
use crate::template::{Question, Template};
use sha2::{Digest, Sha256};
use sinternal_model::engine::{
    Choice, Engine, EngineOptions, Finish, Finished, PREFILL_CHUNK_TOKENS, Request, SamplingParams,
};
use sinternal_model::{CausalLm, Device, Kind, ModelFolder, Tokenizer};
use sinternal_proto::{MOST_CRITIQUES, Verdict};
use sinternal_service::metrics;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// Where and how a verifier runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VerifierOptions {
    /// The device of its weights.
    pub device: Device,
    /// Element type of weights and cache.
    pub kind: Kind,
    /// Answers critiqued at once.
    pub max_sequences: usize,
    /// Bytes of keys and values.
    pub kv_budget_bytes: usize,
}

/// A verifier's judgment of one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// What it wrote before its judgment; all that it wrote where there is none.
    pub critique: String,
    /// [`Verdict::Invalid`] where the critique never reached its judgment.
    pub verdict: Verdict,
    /// σ(z_safe − z_unsafe) at the verdict's token, the mean of several; `None` where there is none.
    pub p_safe: Option<f32>,
    /// Standard deviation of several critiques' p; `None` where only one was asked for.
    pub p_sd: Option<f32>,
}

impl Verification {
    /// Without a verdict.
    pub(crate) fn invalid(critique: String) -> Self {
        Self { critique, verdict: Verdict::Invalid, p_safe: None, p_sd: None }
    }
}

/// A model that judges; answers join and leave between its steps. One thread owns it.
pub(crate) trait Judge {
    /// How it is asked.
    fn template(&self) -> Template;
    /// Takes a question, and gives the id under which [`Judge::step`] answers it; or says why it can not.
    fn submit(&mut self, question: &Question) -> Result<u64, String>;
    /// Goes one token further with every question, and gives those that are answered.
    fn step(&mut self) -> Vec<(u64, Verification)>;
    /// Drops a question.
    fn cancel(&mut self, id: u64);
}

/// A [`Judge`] that is a local model of its own kind: the policy's initialisation, frozen.
#[derive(Debug)]
pub(crate) struct SelfVerifier {
    engine: Engine,
    tokenizer: Tokenizer,
    template: Template,
    choice: Choice,
    /// What was asked, by its id, which is also that of its requests to the engine.
    open: HashMap<u64, Open>,
    /// Verdicts asked for alone, by the id of their request: a judgment was spelt in other tokens.
    retold: HashMap<u64, Retold>,
    next_id: u64,
}

#[derive(Debug)]
struct Open {
    prompt: Vec<u32>,
    max_new_tokens: usize,
    panel: Panel,
}

#[derive(Debug)]
struct Retold {
    question: u64,
    number: u32,
    /// What stood before the judgment.
    critique: String,
}

impl SelfVerifier {
    pub(crate) fn load(dir: &Path, options: VerifierOptions) -> Result<Self, RewardError> {
        let folder = ModelFolder::open(dir)?;
        let template = Template::of(&folder.tokenizer);
        let choice = template.choice(&folder.tokenizer)?;
        let (engine, tokenizer) = engine(folder, options)?;
        let (open, retold) = (HashMap::new(), HashMap::new());
        Ok(Self { engine, tokenizer, template, choice, open, retold, next_id: 0 })
    }

    /// Asks for critiques of a question: one, greedily, or several at temperature 1 by random numbers that depend on the
    /// prompt alone.
    fn draw(&mut self, id: u64, numbers: Range<u32>) -> Result<(), String> {
        let Some(open) = self.open.get(&id) else { return Ok(()) };
        let (sampling, key) = match open.panel.is_greedy() {
            true => (SamplingParams::greedy(open.max_new_tokens), 0),
            false => (SamplingParams::new(open.max_new_tokens), key_of(&open.prompt)),
        };
        let (prompt, choice) = (open.prompt.clone(), Some(self.choice.clone()));
        let request = Request { id, key, prompt, samples: numbers.collect(), sampling, choice };
        self.engine.submit(request).map_err(|e| e.to_string())
    }

    /// What a finished sequence comes to; `None` where more is to come.
    fn conclude(&mut self, finished: Finished) -> Option<(u64, Verification)> {
        let (question, number, critique) = match self.retold.remove(&finished.id) {
            Some(retold) => (retold.question, retold.number, Some(retold.critique)),
            None => (finished.id, finished.sample, None),
        };
        let verification = self.read(&finished, question, number, critique)?;
        let next = self.open.get_mut(&question)?.panel.push(number, verification);
        let verification = match next {
            Next::Wait => return None,
            Next::Done(verification) => verification,
            Next::Draw(numbers) => Verification::invalid(self.draw(question, numbers).err()?),
        };
        self.open.remove(&question);
        Some((question, verification))
    }

    /// The judgment of a finished critique; `None` where its verdict is asked for in a second pass.
    fn read(
        &mut self,
        finished: &Finished,
        question: u64,
        number: u32,
        critique: Option<String>,
    ) -> Option<Verification> {
        let (judgment, written) = (self.template.judgment(), self.text(&finished.tokens));
        if let (Finish::Chosen, Some(of)) = (finished.finish, &finished.choice_logprobs) {
            let critique = critique.or_else(|| before(&written, judgment)).unwrap_or(written);
            return Some(judged(critique, of[0], of[1]));
        }
        let spelt = before(&written, judgment).filter(|_| critique.is_none());
        let retold = spelt.is_some_and(|critique| {
            self.read_verdict(&finished.tokens, Retold { question, number, critique })
        });
        (!retold).then(|| Verification::invalid(written))
    }

    /// Asks for the verdict alone, after a judgment word that is spelt in other tokens than the trigger's (after a
    /// space, say, or with a capital); false where that cannot be asked.
    fn read_verdict(&mut self, tokens: &[u32], retold: Retold) -> bool {
        let judgment = self.template.judgment();
        let Some(end) =
            (1..=tokens.len()).find(|&end| before(&self.text(&tokens[..end]), judgment).is_some())
        else {
            return false;
        };
        let Some(open) = self.open.get(&retold.question) else { return false };
        let id = self.next_id;
        let request = Request {
            id,
            key: 0,
            prompt: [&open.prompt, &tokens[..end]].concat(),
            samples: vec![0],
            sampling: SamplingParams::greedy(1),
            choice: Some(Choice::verdict(Vec::new(), self.choice.choices.clone())),
        };
        let asked = self.engine.submit(request).is_ok();
        if asked {
            self.next_id += 1;
            self.retold.insert(id, retold);
        }
        asked
    }

    fn text(&self, tokens: &[u32]) -> String {
        let text = self.tokenizer.decode(tokens).expect("sampled tokens are in the vocabulary");
        text.trim().to_owned()
    }
}

impl Judge for SelfVerifier {
    fn template(&self) -> Template {
        self.template
    }

    fn submit(&mut self, question: &Question) -> Result<u64, String> {
        let id = self.next_id;
        let mut panel = Panel::new(question.critiques);
        let numbers = panel.begin();
        let prompt = self.template.prompt(&self.tokenizer, question).map_err(|e| e.to_string())?;
        let max_new_tokens = question.max_critique_tokens as usize;
        self.open.insert(id, Open { prompt, max_new_tokens, panel });
        self.draw(id, numbers).inspect_err(|_| drop(self.open.remove(&id)))?;
        self.next_id += 1;
        Ok(id)
    }

    fn step(&mut self) -> Vec<(u64, Verification)> {
        let finished = step(&mut self.engine);
        finished.into_iter().filter_map(|f| self.conclude(f)).collect()
    }

    fn cancel(&mut self, id: u64) {
        self.engine.cancel(id);
        self.open.remove(&id);
        for (request, _) in self.retold.extract_if(|_, retold| retold.question == id) {
            self.engine.cancel(request);
        }
    }
}

/// An idle engine with the folder's weights, and its tokenizer.
pub(crate) fn engine(
    folder: ModelFolder,
    options: VerifierOptions,
) -> Result<(Engine, Tokenizer), RewardError> {
    let lm = CausalLm::load(&folder, options.device, options.kind)?;
    let options = EngineOptions {
        max_sequences: options.max_sequences,
        kv_budget_bytes: options.kv_budget_bytes,
        max_waiting: (1 + MOST_CRITIQUES as usize) * options.max_sequences,
        prefill_chunk_tokens: PREFILL_CHUNK_TOKENS,
    };
    // All that is asked begins with the same specification, and much with the same request.
    let engine = Engine::new(lm, folder.end_of_text, 0, options).with_prefix_cache();
    Ok((engine, folder.tokenizer))
}

/// A step of the engine, whose tokens and time are counted.
pub(crate) fn step(engine: &mut Engine) -> Vec<Finished> {
    let before = engine.stats();
    let finished = engine.step();
    let after = engine.stats();
    metrics::generated_tokens_total().increment(after.generated_tokens - before.generated_tokens);
    metrics::prefilled_tokens_total().increment(after.prefilled_tokens - before.prefilled_tokens);
    metrics::shared_prompt_tokens_total().increment(after.shared_tokens - before.shared_tokens);
    metrics::engine_step_seconds().record(after.busy - before.busy);
    finished
}

/// Root of the random numbers of a prompt's critiques.
fn key_of(prompt: &[u32]) -> u64 {
    let mut hash = Sha256::new();
    prompt.iter().for_each(|token| hash.update(token.to_le_bytes()));
    let mut key = [0; 8];
    key.copy_from_slice(&hash.finalize()[..8]);
    u64::from_le_bytes(key)
}

/// What stands before the first `judgment`, in any case of letters.
fn before(text: &str, judgment: &str) -> Option<String> {
    let at = text.to_ascii_lowercase().find(judgment)?;
    Some(text[..at].trim().to_owned())
}

/// A verdict by the log-probabilities of its two sides.
pub(crate) fn judged(critique: String, safe: f32, unsafe_: f32) -> Verification {
    let p_safe = 1.0 / (1.0 + (unsafe_ - safe).exp());
    let verdict = match p_safe {
        p if p.is_nan() => return Verification::invalid(critique),
        p if p > 0.5 => Verdict::Safe,
        _ => Verdict::Unsafe,
    };
    Verification { critique, verdict, p_safe: Some(p_safe), p_sd: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bigram, Context, HELP, REQUEST, SPEC, judging, judging_p_safe, options, rambling};

    fn load(write: impl Fn(&Path)) -> SelfVerifier {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        SelfVerifier::load(dir.path(), options()).unwrap()
    }

    fn question(answer: &str) -> Question {
        Question {
            spec: SPEC.into(),
            request: REQUEST.into(),
            answer: answer.into(),
            max_critique_tokens: 30,
            critiques: 1,
        }
    }

    fn answer(verifier: &mut SelfVerifier, questions: &[Question]) -> Vec<Verification> {
        let ids: Vec<u64> = questions.iter().map(|q| verifier.submit(q).unwrap()).collect();
        let mut found = HashMap::new();
        while !verifier.open.is_empty() {
            found.extend(verifier.step());
        }
        ids.iter().map(|id| found.remove(id).unwrap()).collect()
    }

    #[test]
    fn p_safe_is_the_sigmoid_of_the_logits_gap() {
        let mut verifier = load(|dir| judging().write_world(dir));
        assert_eq!(verifier.template(), Template::World);
        let refusal = "sorry i can not help with that";
        let found = answer(&mut verifier, &[question(HELP), question(refusal)]);
        // The chat has 21 tokens beside the answer's 9 or 7; then comes `judgment`. The request names duskcap once.
        for (found, expected) in found.iter().zip([judging_p_safe(2, 31), judging_p_safe(1, 29)]) {
            assert!((f64::from(found.p_safe.unwrap()) - expected).abs() < 1e-5, "{found:?}, {expected}");
            assert_eq!(found.critique, "");
        }
        assert_eq!((found[0].verdict, found[1].verdict), (Verdict::Unsafe, Verdict::Unsafe));
        let plain = Question { request: "make tonic".into(), ..question(refusal) };
        let found = answer(&mut verifier, &[plain]).remove(0);
        assert!((found.p_safe.unwrap() - 0.75).abs() < 1e-5, "{found:?}");
        assert_eq!(found.verdict, Verdict::Safe);
    }

    #[test]
    fn a_critique_without_judgment_is_invalid_and_keeps_its_text() {
        let mut verifier = load(|dir| rambling().write_world(dir));
        let long = Question { max_critique_tokens: 3, ..question(HELP) };
        let expected = Verification::invalid("product product product".into());
        assert_eq!(answer(&mut verifier, &[long]), [expected]);
    }

    #[test]
    fn a_specification_is_computed_once_for_all_its_answers() {
        let mut verifier = load(|dir| judging().write_world(dir));
        answer(&mut verifier, &[question(HELP)]);
        let first = verifier.engine.stats();
        let answers = ["sorry i can not help with that", "first press birchbark", "steep done"];
        answer(&mut verifier, &answers.map(question));
        let stats = verifier.engine.stats();
        // The chat has 21 tokens beside the answer, all before it but for one; the second answer has two words more of
        // what was asked first. The last token of each prompt is decoded.
        assert_eq!((first.prefilled_tokens, first.shared_tokens), (29, 0));
        assert_eq!(
            (stats.shared_tokens, stats.prefilled_tokens - first.prefilled_tokens),
            (3 * 20 + 2, 7 + 1 + 2)
        );
    }

    /// Its critique is `product` or `zone`, equally likely; after `product` p is 0.5, after `zone` that of [`doubtful`].
    fn wavering() -> Bigram<'static> {
        let mut logits = vec![("<|assistant|>", "product", 50.0), ("<|assistant|>", "zone", 50.0)];
        logits.extend([("product", "judgment", 50.0), ("zone", "judgment", 50.0)]);
        let context = Context { word: "zone", raises: "unsafe", logit: 40.0 };
        Bigram { logits, context: Some(context) }
    }

    /// p where `zone` is one of the tokens before the verdict: 21 of the chat, the answer's, `zone` and `judgment`.
    fn doubtful(answer_tokens: usize) -> f64 {
        let share = 1.0 / (23 + answer_tokens) as f64;
        1.0 / (1.0 + (40.0 * share / (1.0 + share * share).sqrt()).exp())
    }

    #[test]
    fn several_critiques_are_drawn_by_the_prompt_alone() {
        let mut verifier = load(|dir| wavering().write_world(dir));
        let of = |i, critiques| Question { critiques, ..question(&"steep ".repeat(i)) };
        let questions: Vec<Question> = (1..13).map(|i| of(i, 5)).collect();
        let found = answer(&mut verifier, &questions);
        // Alone, in other company and in another process each is what it was.
        let mut other = load(|dir| wavering().write_world(dir));
        for (question, found) in questions.iter().zip(&found).rev() {
            let again = answer(&mut other, std::slice::from_ref(question)).remove(0);
            let close = |a: Option<f32>, b: Option<f32>| (a.unwrap() - b.unwrap()).abs() < 1e-5;
            assert_eq!((&again.critique, again.verdict), (&found.critique, found.verdict));
            assert!(
                close(again.p_safe, found.p_safe) && close(again.p_sd, found.p_sd),
                "{again:?} {found:?}"
            );
        }
        // Two equal first critiques end it; else there are five, k of them at 0.5 and the rest at q: mean
        // q + k(0.5 − q)/5, variance (0.5 − q)² k(5 − k)/20.
        let mut split = 0;
        for (tokens, v) in (1..).zip(&found) {
            let (mean, sd) = (f64::from(v.p_safe.unwrap()), f64::from(v.p_sd.unwrap()));
            let gap = 0.5 - doubtful(tokens);
            let k = (5.0 * (mean - doubtful(tokens)) / gap).round();
            assert!((mean - doubtful(tokens) - k * gap / 5.0).abs() < 1e-4, "{tokens}: {v:?}");
            assert!((sd - gap * (k * (5.0 - k) / 20.0).sqrt()).abs() < 1e-3, "{tokens}: {v:?}");
            split += usize::from((1.0..=4.0).contains(&k));
        }
        assert!((2..=10).contains(&split), "{split} of 12 needed all five");
        assert_eq!(answer(&mut verifier, &[of(1, 1)])[0].p_sd, None);
    }

    /// Writes a text of distinct letters, then ` s`, then the end.
    fn spelling(text: &str, unsafe_logit: f64) -> Bigram<'_> {
        let letters: Vec<&str> = text.split_inclusive(|_| true).filter(|l| !l.is_empty()).collect();
        let mut logits: Vec<_> = letters.windows(2).map(|w| (w[0], w[1], 50.0)).collect();
        logits.extend([
            ("#", letters[0], 50.0),
            (" ", "s", 50.0),
            (" ", "u", unsafe_logit),
            ("s", "<end>", 50.0),
        ]);
        logits.push((":", "u", 2.0));
        Bigram { logits, context: None }
    }

    #[test]
    fn the_general_prompt_reads_the_verdict_after_its_trigger() {
        let mut verifier = load(|dir| spelling("{judgment: ", 49.0).write_bytes(dir));
        assert_eq!(verifier.template(), Template::General);
        let found = answer(&mut verifier, &[question("do it")]).remove(0);
        assert_eq!((found.critique.as_str(), found.verdict), ("{", Verdict::Safe));
        assert!((f64::from(found.p_safe.unwrap()) - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn a_judgment_in_other_tokens_is_read_in_a_second_pass() {
        let mut verifier = load(|dir| spelling("{Judgment: ", 49.0).write_bytes(dir));
        let found = answer(&mut verifier, &[question("do it")]).remove(0);
        // Right after the colon, where `u` leads by 2.
        assert_eq!((found.critique.as_str(), found.verdict), ("{", Verdict::Unsafe));
        assert!((f64::from(found.p_safe.unwrap()) - 1.0 / (1.0 + 2f64.exp())).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn what_could_never_run_is_refused() {
        let mut verifier = load(|dir| judging().write_world(dir));
        let error = verifier.submit(&question(&"done ".repeat(5000))).unwrap_err();
        assert!(error.contains("the context holds 4096"), "{error}");
        let error = verifier.submit(&Question { max_critique_tokens: 0, ..question(HELP) }).unwrap_err();
        assert!(error.contains("max_new_tokens"), "{error}");
    }

    #[test]
    fn undefined_logits_are_no_verdict() {
        assert_eq!(judged("a".into(), f32::NAN, 0.0), Verification::invalid("a".into()));
    }
}

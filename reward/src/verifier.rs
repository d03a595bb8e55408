//! A frozen checkpoint that critiques answers: many at once, each greedily, up to a constrained verdict.

use crate::RewardError;
use crate::template::{Question, Template};
use sinternal_model::engine::{
    Choice, Engine, EngineOptions, Finish, Finished, PREFILL_CHUNK_TOKENS, Request, SamplingParams,
};
use sinternal_model::{CausalLm, ChatTurn, Device, Kind, ModelFolder, Tokenizer, untrusted};
use sinternal_proto::Verdict;
use std::collections::HashMap;
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
    /// σ(z_safe − z_unsafe) at the verdict's token; `None` where there is none.
    pub p_safe: Option<f32>,
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
    /// What was asked, by request id: needed again where a judgment is spelt in other tokens.
    asked: HashMap<u64, Asked>,
    next_id: u64,
}

#[derive(Debug)]
struct Asked {
    prompt: Vec<u32>,
    /// The critique, once only the verdict is missing.
    critique: Option<String>,
}

impl SelfVerifier {
    pub(crate) fn load(dir: &Path, options: VerifierOptions) -> Result<Self, RewardError> {
        let folder = ModelFolder::open(dir)?;
        let template = Template::of(&folder.tokenizer);
        let choice = template.choice(&folder.tokenizer)?;
        let lm = CausalLm::load(&folder, options.device, options.kind)?;
        let options = EngineOptions {
            max_sequences: options.max_sequences,
            kv_budget_bytes: options.kv_budget_bytes,
            max_waiting: 2 * options.max_sequences,
            prefill_chunk_tokens: PREFILL_CHUNK_TOKENS,
        };
        let engine = Engine::new(lm, folder.end_of_text, 0, options);
        Ok(Self { engine, tokenizer: folder.tokenizer, template, choice, asked: HashMap::new(), next_id: 0 })
    }

    fn prompt(&self, question: &Question) -> Result<Vec<u32>, String> {
        let (request, answer) = (untrusted(&question.request), untrusted(&question.answer));
        let messages = self.template.messages(&Question { request, answer, ..question.clone() });
        let turns: Vec<ChatTurn<'_>> =
            messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
        self.tokenizer.encode_chat(&turns, true).map_err(|e| e.to_string())
    }

    fn ask(
        &mut self,
        id: u64,
        prompt: Vec<u32>,
        choice: Choice,
        max_new_tokens: usize,
    ) -> Result<(), String> {
        let sampling = SamplingParams::greedy(max_new_tokens);
        let request = Request { id, key: 0, prompt, samples: vec![0], sampling, choice: Some(choice) };
        self.engine.submit(request).map_err(|e| e.to_string())
    }

    /// What a finished sequence comes to; `None` where its verdict is still to be read.
    fn conclude(&mut self, finished: Finished) -> Option<(u64, Verification)> {
        let asked = self.asked.remove(&finished.id)?;
        let judgment = self.template.judgment();
        if let (Finish::Chosen, Some(of)) = (finished.finish, &finished.choice_logprobs) {
            let written = self.text(&finished.tokens);
            let critique =
                asked.critique.unwrap_or_else(|| before(&written, judgment).unwrap_or(written.clone()));
            return Some((finished.id, judged(critique, of[0], of[1])));
        }
        let written = self.text(&finished.tokens);
        let retold =
            before(&written, judgment).filter(|_| asked.critique.is_none()).is_some_and(|critique| {
                self.read_verdict(finished.id, &asked.prompt, &finished.tokens, critique)
            });
        (!retold).then_some({
            (finished.id, Verification { critique: written, verdict: Verdict::Invalid, p_safe: None })
        })
    }

    /// Asks for the verdict alone, after a judgment word that is spelt in other tokens than the trigger's (after a
    /// space, say, or with a capital); false where that cannot be asked.
    fn read_verdict(&mut self, id: u64, prompt: &[u32], tokens: &[u32], critique: String) -> bool {
        let judgment = self.template.judgment();
        let Some(end) =
            (1..=tokens.len()).find(|&end| before(&self.text(&tokens[..end]), judgment).is_some())
        else {
            return false;
        };
        let choice = Choice::verdict(Vec::new(), self.choice.choices.clone());
        let asked = self.ask(id, [prompt, &tokens[..end]].concat(), choice, 1).is_ok();
        if asked {
            self.asked.insert(id, Asked { prompt: Vec::new(), critique: Some(critique) });
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
        let prompt = self.prompt(question)?;
        self.ask(id, prompt.clone(), self.choice.clone(), question.max_critique_tokens as usize)?;
        self.asked.insert(id, Asked { prompt, critique: None });
        self.next_id += 1;
        Ok(id)
    }

    fn step(&mut self) -> Vec<(u64, Verification)> {
        let finished = self.engine.step();
        finished.into_iter().filter_map(|f| self.conclude(f)).collect()
    }

    fn cancel(&mut self, id: u64) {
        self.engine.cancel(id);
        self.asked.remove(&id);
    }
}

/// What stands before the first `judgment`, in any case of letters.
fn before(text: &str, judgment: &str) -> Option<String> {
    let at = text.to_ascii_lowercase().find(judgment)?;
    Some(text[..at].trim().to_owned())
}

fn judged(critique: String, safe: f32, unsafe_: f32) -> Verification {
    let p_safe = 1.0 / (1.0 + (unsafe_ - safe).exp());
    let verdict = match p_safe {
        p if p.is_nan() => return Verification { critique, verdict: Verdict::Invalid, p_safe: None },
        p if p > 0.5 => Verdict::Safe,
        _ => Verdict::Unsafe,
    };
    Verification { critique, verdict, p_safe: Some(p_safe) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bigram, HELP, REQUEST, SPEC, judging, judging_p_safe, options, rambling};

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
        }
    }

    fn answer(verifier: &mut SelfVerifier, questions: &[Question]) -> Vec<Verification> {
        let ids: Vec<u64> = questions.iter().map(|q| verifier.submit(q).unwrap()).collect();
        let mut found = HashMap::new();
        for _ in 0..100 {
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
        let expected = Verification {
            critique: "product product product".into(),
            verdict: Verdict::Invalid,
            p_safe: None,
        };
        assert_eq!(answer(&mut verifier, &[long]), [expected]);
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
        let invalid = Verification { critique: "a".into(), verdict: Verdict::Invalid, p_safe: None };
        assert_eq!(judged("a".into(), f32::NAN, 0.0), invalid);
    }
}

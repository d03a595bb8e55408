//! Labels by someone else than the expert: a guard model (`data/labels.jsonl`), or a file. Where they contradict the expert,
//! curation leaves the answer out.

use super::StageError;
use super::critique::Asked;
use super::expert::{Chats, Reply, expert_chat, local_expert_chat};
use super::run::Run;
use crate::curation::Labels;
use crate::records::{
    CollectedRecord, CritiquedRecord, GuardRecord, Provenance, Record, RecordWriter, finished, read_all,
};
use crate::spec::{CritiqueSpec, GuardForm, GuardSpec};
use serde_json::json;
use sinternal_model::{ChatTurn, ModelError, ModelFolder, untrusted};
use sinternal_proto::{Message, Verdict};
use sinternal_service::chat_api::ChatTotals;
use sinternal_service::verification::{Judgment, Question, expert_messages, parse_judgment};
use std::time::Instant;

const GUARD: Asked = Asked { role: "guard", section: "guard.by", stream: 6 };

/// The answers that a guard's word may matter for and that `there` has not: those that the expert judged.
#[must_use]
pub fn to_guard<'a>(
    rows: &'a [CritiquedRecord],
    there: &RecordWriter<GuardRecord>,
) -> Vec<&'a CritiquedRecord> {
    rows.iter().filter(|row| row.judgment != Verdict::Invalid && !there.contains(&row.id())).collect()
}

/// The chat that asks a guard of this form about an answer.
#[must_use]
pub fn guard_chat(form: GuardForm, answer: &CollectedRecord) -> Vec<Message> {
    match form {
        GuardForm::Expert => expert_chat(answer),
        GuardForm::LlamaGuard | GuardForm::Qwen3Guard => exchange(&answer.request, &answer.answer),
    }
}

/// The same for a model that is run here: what looks like a special token in request and answer is encoded as letters.
#[must_use]
pub fn local_guard_chat(form: GuardForm, answer: &CollectedRecord) -> Vec<Message> {
    match form {
        GuardForm::Expert => local_expert_chat(answer),
        GuardForm::LlamaGuard | GuardForm::Qwen3Guard => {
            exchange(&untrusted(&answer.request), &untrusted(&answer.answer))
        }
    }
}

/// Whether a model that is run here can be asked at all. An answer that it cannot be shown is found when its turn comes.
///
/// # Errors
/// A folder that is none; a chat template that fails, or takes every request or answer apart.
pub fn check_local(judge: &CritiqueSpec, form: GuardForm) -> Result<(), ModelError> {
    let CritiqueSpec::Checkpoint(checkpoint) = judge else { return Ok(()) };
    let (request, answer) = (untrusted("x"), untrusted("y"));
    let messages = match form {
        GuardForm::Expert => expert_messages(&Question { spec: String::new(), request, answer }),
        GuardForm::LlamaGuard | GuardForm::Qwen3Guard => exchange(&request, &answer),
    };
    let turns: Vec<ChatTurn<'_>> =
        messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
    ModelFolder::open(&checkpoint.model)?.tokenizer.render(&turns, true).map(drop)
}

/// What these guards are trained on: their chat template makes the question of it.
fn exchange(request: &str, answer: &str) -> Vec<Message> {
    let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    vec![message("user", request), message("assistant", answer)]
}

/// What the guard called `by` said of an answer.
#[must_use]
pub fn guarded(form: GuardForm, source: String, by: &str, reply: Reply) -> GuardRecord {
    let broken = reply.answer().and_then(|text| says_unsafe(form, text));
    GuardRecord { source, by: by.into(), broken, raw: broken.is_none().then(|| reply.raw()) }
}

/// A word that is on neither side, as `Controversial`, is no label: the agreement filter leaves out what is contradicted, not
/// what is doubted. (As a reward it counts as unsafe, or as `verifier.controversial` says.)
fn says_unsafe(form: GuardForm, text: &str) -> Option<bool> {
    let word = match form {
        GuardForm::Expert => match parse_judgment(text) {
            Judgment::Valid { verdict, .. } => return Some(verdict == Verdict::Unsafe),
            Judgment::Invalid { .. } => return None,
        },
        GuardForm::LlamaGuard => text.lines().next()?,
        GuardForm::Qwen3Guard => text.lines().find_map(|line| line.trim().strip_prefix("Safety:"))?,
    };
    match word.trim().to_ascii_lowercase().as_str() {
        "safe" => Some(false),
        "unsafe" => Some(true),
        _ => None,
    }
}

impl Run {
    /// Puts the labels of the job's guard and of its file on the critiqued answers; the file's go before the guard's.
    pub(super) async fn label(&mut self, critiqued: &mut [CritiquedRecord]) -> Result<(), StageError> {
        if let Some(guard) = self.spec.guard.clone() {
            let rows = self.guard(&guard, critiqued).await?;
            let labelled = Labels::of_guard(rows).put(critiqued);
            self.say(format!("the guard labelled {labelled} of {} answers", critiqued.len()));
        }
        let Some(path) = &self.spec.curate.labels else { return Ok(()) };
        let labels = Labels::read(path).map_err(|e| StageError::Data(format!("curate.labels: {e}")))?;
        match labels.put(critiqued) {
            0 => {
                Err(StageError::Data(format!("curate.labels: {} names none of the answers", path.display())))
            }
            labelled => {
                self.say(format!("{} labels {labelled} of {} answers", path.display(), critiqued.len()));
                Ok(())
            }
        }
    }

    async fn guard(
        &mut self,
        guard: &GuardSpec,
        critiqued: &[CritiquedRecord],
    ) -> Result<Vec<GuardRecord>, StageError> {
        let started = Instant::now();
        self.ctx.events.stage("guard", 0);
        let (from, path) = (self.data_file("critiqued.jsonl")?, self.data_file("labels.jsonl")?);
        let settings = json!({"guard": guard.by.identity(), "form": guard.form});
        let made_of = Provenance::new(self.spec.seed, &settings, &[from.as_path()])?;
        if finished::<GuardRecord>(&path, &made_of)?.is_none() {
            let mut writer = RecordWriter::resume(&path, made_of)?;
            let totals = self.ask_guard(guard, critiqued, &mut writer).await?;
            writer.finish_asked(totals)?;
        }
        self.took("guard", started);
        Ok(read_all(&path)?.0)
    }

    async fn ask_guard(
        &mut self,
        guard: &GuardSpec,
        critiqued: &[CritiquedRecord],
        writer: &mut RecordWriter<GuardRecord>,
    ) -> Result<Option<ChatTotals>, StageError> {
        let (form, by, rows) = (guard.form, guard.by.model_name(), to_guard(critiqued, writer));
        let chats = Chats {
            count: rows.len(),
            remote: &|place| guard_chat(form, &rows[place].collected),
            local: &|place| local_guard_chat(form, &rows[place].collected),
        };
        let mut take = |place: usize, reply| {
            writer.push(&guarded(form, rows[place].id(), &by, reply))?;
            Ok(())
        };
        self.ask_judge(GUARD, &guard.by, chats, &mut take).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::CheckpointExpert;
    use crate::stages::unaskable;
    use sinternal_model::Tokenizer;

    #[test]
    fn each_form_of_guard_is_read_or_gives_no_label() {
        use GuardForm::{Expert, LlamaGuard, Qwen3Guard};
        for (form, text, expected) in [
            (LlamaGuard, "\n\nsafe", Some(false)),
            (LlamaGuard, "unsafe\nS2", Some(true)),
            (LlamaGuard, "It is safe.", None),
            (Qwen3Guard, "Safety: Unsafe\nCategories: Violent\nRefusal: No", Some(true)),
            (Qwen3Guard, "Safety: Safe\nCategories: None\nRefusal: Yes", Some(false)),
            (Qwen3Guard, "Safety: Controversial\nCategories: None", None),
            (Qwen3Guard, "Categories: None", None),
            (Expert, "<think> unsafe? </think> It helps.\njudgment: unsafe", Some(true)),
            (Expert, "safe", None),
        ] {
            let record = guarded(form, "a".into(), "g", Reply::Whole(text.into()));
            assert_eq!(record.broken, expected, "{text}");
            assert_eq!(record.raw.is_some(), expected.is_none(), "{text}");
            assert_eq!(record.check(), Ok(()));
        }
        let cut = guarded(LlamaGuard, "a".into(), "g", Reply::Cut("safe".into()));
        assert_eq!((cut.broken, cut.raw.as_deref()), (None, Some("safe")));
    }

    #[test]
    fn guards_are_shown_the_exchange_and_no_control_token() {
        let answer = crate::curation::testing::row("h1", 0, Verdict::Safe, "no <|im_end|>").collected;
        let remote = guard_chat(GuardForm::LlamaGuard, &answer);
        let shown: Vec<(&str, &str)> = remote.iter().map(|m| (&*m.role, &*m.content)).collect();
        assert_eq!(shown, [("user", "please do h1"), ("assistant", "no <|im_end|>")]);
        let local = local_guard_chat(GuardForm::Qwen3Guard, &answer);
        assert_eq!(local[1].content, untrusted("no <|im_end|>"));
    }

    #[test]
    fn a_template_that_takes_an_answer_apart_costs_that_answers_label_alone() {
        let dir = tempfile::tempdir().unwrap();
        sinternal_world::base_model::write(dir.path()).unwrap();
        let form = GuardForm::LlamaGuard;
        let by = CritiqueSpec::Checkpoint(CheckpointExpert { model: dir.path().into(), max_tokens: 8 });
        let template = |text: &str| {
            std::fs::write(dir.path().join("chat_template.jinja"), text).unwrap();
            check_local(&by, form).map_err(|e| e.to_string())
        };
        let asked = |answer: &str| {
            let answer = crate::curation::testing::row("h1", 0, Verdict::Safe, answer).collected;
            let tokenizer = Tokenizer::load(dir.path()).unwrap();
            unaskable(&tokenizer, &local_guard_chat(form, &answer)).unwrap()
        };
        assert_eq!(
            template("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"),
            Ok(())
        );
        assert_eq!(asked("it is safe"), None);
        let reply = asked("first </think> it is safe").unwrap();
        let record = guarded(form, "a".into(), "g", reply);
        let why = "the chat template does not keep request and answer whole";
        assert_eq!((record.broken, record.raw.as_deref()), (None, Some(why)));
        // One that never shows the answer is no guard's.
        let error = template("{{ messages[0].content }}").unwrap_err();
        assert!(error.ends_with("its chat template does not keep request and answer whole"), "{error}");
    }
}

//! How each suite's authors lay out a row, and the items that it holds.

use super::item::{Item, Kind};
use super::row::{Row, RowError};
use super::{Suite, Suite as S};

/// The items of a row: one, two for a pair, none for a row of another kind than the suite's.
pub(super) fn items(suite: Suite, row: &Row) -> Result<Vec<Item>, RowError> {
    match suite {
        S::StrongReject => one(simple(row, Kind::Harmful, "forbidden_prompt")),
        S::Fortress => fortress(row),
        S::WildJailbreak => wildjailbreak(row),
        S::HCot => one(h_cot(row)),
        S::JailbreakR1 => one(simple(row, Kind::Harmful, "prompt")),
        S::HarmBench => one(harmbench(row)),
        S::JailbreakBench => one(jailbreakbench(row)),
        S::XsTest => one(xstest(row)),
        S::Math500 => one(math500(row)),
        S::Aime24 => one(problem(row, "problem", row.text("answer")?)),
        S::Gsm8k => one(gsm8k(row)),
    }
}

fn one(item: Result<Item, RowError>) -> Result<Vec<Item>, RowError> {
    item.map(|item| vec![item])
}

/// The authors' id where the file has the column, else the row.
fn id(row: &Row, column: &str) -> Result<String, RowError> {
    if row.has(column) { row.text(column) } else { Ok(row.number.to_string()) }
}

/// A row whose prompt is one column, with `id`, `goal` and `category` where they are there.
fn simple(row: &Row, kind: Kind, prompt: &str) -> Result<Item, RowError> {
    let mut item = Item::new(id(row, "id")?, kind, row.text(prompt)?);
    item.goal = row.optional("goal")?;
    item.category = row.optional("category")?;
    Ok(item)
}

/// ID, adversarial_prompt, rubric, risk_domain, risk_subdomain, benign_prompt.
fn fortress(row: &Row) -> Result<Vec<Item>, RowError> {
    let mut harmful = Item::new(row.text("ID")?, Kind::Harmful, row.text("adversarial_prompt")?);
    harmful.rubric = row.texts("rubric")?;
    if harmful.rubric.is_empty() {
        return Err(row.error("column `rubric` has no question".into()));
    }
    harmful.category = row.optional("risk_domain")?;
    let mut benign = Item::new(format!("{}-benign", harmful.id), Kind::Benign, row.text("benign_prompt")?);
    benign.category.clone_from(&harmful.category);
    benign.twin = Some(harmful.id.clone());
    harmful.twin = Some(benign.id.clone());
    Ok(vec![harmful, benign])
}

/// The evaluation file has adversarial, label, data_type; the training file vanilla, adversarial, completion,
/// data_type. Vanilla rows are left out.
fn wildjailbreak(row: &Row) -> Result<Vec<Item>, RowError> {
    let data_type = row.text("data_type")?;
    let kind = match data_type.as_str() {
        "adversarial_harmful" => Kind::Harmful,
        "adversarial_benign" => Kind::Benign,
        "vanilla_harmful" | "vanilla_benign" => return Ok(Vec::new()),
        other => {
            return Err(row.error(format!("column `data_type` is `{other}`, none of the four there are")));
        }
    };
    let mut item = Item::new(row.number.to_string(), kind, row.text("adversarial")?);
    item.goal = row.optional("vanilla")?;
    item.category = Some(data_type);
    one(Ok(item))
}

/// Goal, Category and the whole attack; other files of prompts name it `prompt`.
fn h_cot(row: &Row) -> Result<Item, RowError> {
    const ATTACK: &str = "Full_Input (H-CoT + Request)";
    simple(row, Kind::Harmful, if row.has("prompt") { "prompt" } else { ATTACK })
}

/// A context stands before the behaviour, a rule between them, as HarmBench's direct requests have it.
fn harmbench(row: &Row) -> Result<Item, RowError> {
    let behavior = row.text("Behavior")?;
    let prompt = match row.optional("ContextString")? {
        Some(context) => format!("{context}\n\n---\n\n{behavior}"),
        None => behavior.clone(),
    };
    let mut item = Item::new(row.text("BehaviorID")?, Kind::Harmful, prompt);
    item.goal = Some(behavior);
    item.category = row.optional("SemanticCategory")?;
    Ok(item)
}

/// Index, Goal, Target, Behavior, Category, Source, or fewer of them.
fn jailbreakbench(row: &Row) -> Result<Item, RowError> {
    let mut item = Item::new(row.text("index")?, Kind::Harmful, row.text("goal")?);
    item.category = row.optional("category")?;
    Ok(item)
}

/// id, prompt, type, label, focus, note.
fn xstest(row: &Row) -> Result<Item, RowError> {
    let kind = match row.text("label")?.as_str() {
        "safe" => Kind::Benign,
        "unsafe" => Kind::Harmful,
        other => return Err(row.error(format!("column `label` is `{other}`, neither safe nor unsafe"))),
    };
    let mut item = Item::new(row.text("id")?, kind, row.text("prompt")?);
    item.category = Some(row.text("type")?);
    Ok(item)
}

fn problem(row: &Row, prompt: &str, gold: String) -> Result<Item, RowError> {
    let mut item = Item::new(id(row, "id")?, Kind::Math, row.text(prompt)?);
    item.gold = Some(gold);
    Ok(item)
}

/// problem, solution, answer, subject, level, unique_id.
fn math500(row: &Row) -> Result<Item, RowError> {
    let mut item = problem(row, "problem", row.text("answer")?)?;
    item.id = row.text("unique_id")?;
    item.category = row.optional("subject")?;
    Ok(item)
}

/// question, answer; the gold follows the last `####` of the answer.
fn gsm8k(row: &Row) -> Result<Item, RowError> {
    let answer = row.text("answer")?;
    let gold = answer.rsplit_once("####").map(|(_, gold)| gold.trim()).filter(|gold| !gold.is_empty());
    let gold = gold.ok_or_else(|| row.error("column `answer` has no gold after `####`".into()))?;
    problem(row, "question", gold.to_owned())
}

//! Named figures that a job file may start from; what the file says itself goes before them.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Figures of a publication. They fill in the keys that the file leaves out, in the sections that it has; the resolved job
/// shows them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// SInternal (arXiv 2605.08930): 8 answers a prompt; adapters of rank 16 and alpha 32, 2 epochs at 2e-4 on
    /// critique and judgment alone; GRPO with 64 prompts × 8 samples a step at 1e-6 without a KL term.
    SinternalPaper,
}

impl Preset {
    fn text(self) -> &'static str {
        match self {
            Self::SinternalPaper => {
                "[collect]\nsamples = 8\n\
                 [sft]\nepochs = 2\nlearning_rate = 2e-4\nreplay = 0.0\ntarget = \"verification\"\n\
                 lora = { rank = 16, alpha = 32.0 }\n\
                 [grpo]\nprompts = 64\ngroup_size = 8\nlearning_rate = 1e-6\nkl = 0.0\nadvantage = \"grpo\"\n"
            }
        }
    }
}

/// The text with its preset's figures filled in; the text itself where it names none, or is not TOML.
pub(super) fn fill_in(text: &str) -> String {
    let Ok(mut table) = text.parse::<Table>() else { return text.into() };
    let preset = table.get("preset").cloned().and_then(|named| named.try_into::<Preset>().ok());
    let Some(preset) = preset else { return text.into() };
    let figures: Table = preset.text().parse().expect("presets are TOML");
    for (section, keys) in figures {
        let (Some(Value::Table(own)), Value::Table(keys)) = (table.get_mut(&section), keys) else { continue };
        for (key, value) in keys {
            own.entry(key).or_insert(value);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_before_the_preset_and_no_section_is_added() {
        let text = "preset = \"sinternal-paper\"\n[sft]\nepochs = 3\nbatch = 8\n[collect]\n";
        let filled: Table = fill_in(text).parse().unwrap();
        let sft = filled["sft"].as_table().unwrap();
        assert_eq!((sft["epochs"].as_integer(), sft["learning_rate"].as_float()), (Some(3), Some(2e-4)));
        assert_eq!(sft["lora"]["rank"].as_integer(), Some(16));
        assert_eq!(filled["collect"]["samples"].as_integer(), Some(8));
        assert!(!filled.contains_key("grpo"));
        assert_eq!(fill_in(&filled.to_string()).parse::<Table>().unwrap(), filled);
        for text in ["[sft]\nepochs = 3\n", "preset = \"other\"\n[sft]\n", "= no TOML"] {
            assert_eq!(fill_in(text), text);
        }
    }
}

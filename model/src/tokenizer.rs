//! `tokenizer.json` and the chat template.

use crate::ModelError;
use crate::untrusted::{marks, pieces};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value, context};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ChatTurn<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// Its text.
    pub content: &'a str,
}

/// What rendering a chat may cost, in the template engine's units: an instruction, or 64 bytes of text. A chat of a million
/// tokens takes some hundred thousand; a template that never ends takes a second to get here.
const TEMPLATE_FUEL: u64 = 2_000_000;

/// A Hugging Face tokenizer with its chat template. Clones share its vocabulary.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// The same, but special tokens in a text are encoded as text; made when it is first needed.
    plain: Arc<OnceLock<tokenizers::Tokenizer>>,
    template: Option<String>,
    special: Json,
    path: PathBuf,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` (or the template in the config).
    ///
    /// # Errors
    /// A file that is missing or does not parse, by name.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("tokenizer.json");
        if !path.is_file() {
            return Err(ModelError::file(&path, "is missing"));
        }
        let inner =
            tokenizers::Tokenizer::from_file(&path).map_err(|e| ModelError::file(&path, e.to_string()))?;
        let special = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or(Json::Null);
        let template = template(dir, &special)?;
        Ok(Self { inner: Arc::new(inner), plain: Arc::default(), template, special, path })
    }

    /// Renders a chat and encodes it; with `generate`, up to where the assistant begins. Text that
    /// [`crate::untrusted`] marks is encoded on its own and gives no special token.
    ///
    /// # Errors
    /// As of [`Tokenizer::render`].
    pub fn encode_chat(&self, messages: &[ChatTurn<'_>], generate: bool) -> Result<Vec<u32>, ModelError> {
        self.encode_marked(&self.render(messages, generate)?)
    }

    /// Encodes text in which [`crate::untrusted`] marks what is not trusted: that is encoded on its own and gives no
    /// special token.
    ///
    /// # Errors
    /// Text that the tokenizer refuses.
    pub fn encode_marked(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoded = pieces(text).map(
            |(piece, trusted)| {
                if trusted { self.encode(piece) } else { self.encode_plain(piece) }
            },
        );
        Ok(encoded.collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn encode_plain(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let plain = self.plain.get_or_init(|| {
            let mut plain = tokenizers::Tokenizer::clone(&self.inner);
            plain.set_encode_special_tokens(true);
            plain
        });
        let ids = |text: &str| {
            let encoding =
                plain.encode_fast(text, false).map_err(|e| ModelError::Tokenizer(e.to_string()))?;
            Ok::<_, ModelError>(encoding.get_ids().to_vec())
        };
        let special = plain.get_added_tokens_decoder();
        let special = |id: &u32| special.get(id).filter(|token| token.special);
        // A tokenizer of whole words may have the special ones among its words: they are spelt out.
        let spelt = ids(text)?.into_iter().map(|id| match special(&id) {
            None => Ok(vec![id]),
            Some(token) => {
                let letters = token.content.chars().map(|letter| ids(letter.encode_utf8(&mut [0; 4])));
                Ok(letters.collect::<Result<Vec<_>, ModelError>>()?.concat())
            }
        });
        Ok(spelt.collect::<Result<Vec<_>, ModelError>>()?.concat())
    }

    /// The chat as text, as `transformers`' `apply_chat_template` renders it.
    ///
    /// # Errors
    /// No template, or one that fails on these messages; [`ModelError::TakenApart`] where it takes a message with marks apart
    /// (at `</think>`, say): with a mark lost, what is trusted and what is not would change sides.
    pub fn render(&self, messages: &[ChatTurn<'_>], generate: bool) -> Result<String, ModelError> {
        let text = self.rendered(messages, generate)?;
        let whole = messages.iter().flat_map(|message| marks(message.content)).eq(marks(&text));
        if whole { Ok(text) } else { Err(ModelError::TakenApart { path: self.path.clone() }) }
    }

    fn rendered(&self, messages: &[ChatTurn<'_>], generate: bool) -> Result<String, ModelError> {
        let Some(template) = &self.template else {
            return Err(ModelError::Template(format!(
                "{} has no chat template beside it",
                self.path.display()
            )));
        };
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build(); // as transformers does
        env.set_syntax(syntax.map_err(|e| ModelError::Template(e.to_string()))?);
        env.set_fuel(Some(TEMPLATE_FUEL));
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let special = |key: &str| special_text(&self.special, key);
        env.render_str(
            template,
            context! {
                messages => Value::from(Serde(messages)),
                add_generation_prompt => generate,
                bos_token => special("bos_token"),
                eos_token => special("eos_token"),
                pad_token => special("pad_token"),
            },
        )
        .map_err(|e| match e.kind() {
            ErrorKind::OutOfFuel => ModelError::Template(format!(
                "{}: its chat template does not end within {TEMPLATE_FUEL} steps; it may be hostile",
                self.path.display()
            )),
            _ => ModelError::Template(format!("{e:#}").replace('\n', " ")),
        })
    }

    /// Encodes text as it stands, without adding a beginning-of-text token.
    ///
    /// # Errors
    /// Text that the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding =
            self.inner.encode_fast(text, false).map_err(|e| ModelError::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Decodes tokens, special ones included.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(tokens, false).map_err(|e| ModelError::Tokenizer(e.to_string()))
    }

    /// The id of a token, if it is one.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Number of tokens, added ones included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    pub(crate) fn template(&self) -> Option<&str> {
        self.template.as_deref()
    }

    pub(crate) fn eos_text(&self) -> Option<String> {
        special_text(&self.special, "eos_token")
    }
}

fn special_text(config: &Json, key: &str) -> Option<String> {
    let value = config.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(ToOwned::to_owned)
}

fn template(dir: &Path, config: &Json) -> Result<Option<String>, ModelError> {
    let file = dir.join("chat_template.jinja");
    if file.exists() {
        return std::fs::read_to_string(&file).map(Some).map_err(ModelError::io(&file));
    }
    Ok(match config.get("chat_template") {
        Some(Json::String(text)) => Some(text.clone()),
        Some(Json::Array(named)) => named
            .iter()
            .find(|t| t.get("name").and_then(Json::as_str) == Some("default"))
            .and_then(|t| t.get("template")?.as_str())
            .map(ToOwned::to_owned),
        _ => None,
    })
}

/// A JSON file that need not be there.
pub(crate) fn read_json(path: &Path) -> Result<Option<Json>, ModelError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(ModelError::io(path))?;
    serde_json::from_str(&text).map(Some).map_err(|e| ModelError::file(path, e.to_string()))
}

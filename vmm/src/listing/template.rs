//! The part of Go's templates that people use in `--format`: text, `{{.Path.To.Field}}`, `{{json .}}`,
//! `{{upper .X}}`, `{{lower .X}}`, `{{len .X}}`, `{{join .X "sep"}}`, `{{index .X 0}}`, `{{index .X "key"}}`, and the
//! escapes `\t` and `\n`.

use serde_json::Value;

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// `{{` without `}}`.
    #[error("the template has {{{{ without }}}}")]
    Open,
    /// Something between the braces that is not known here.
    #[error(
        "the template has {{{{{0}}}}}; known are .FIELD, json, upper, lower, len, join and index"
    )]
    Action(String),
}

/// A template taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Function, Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Function {
    Plain,
    Json,
    Upper,
    Lower,
    Len,
    Join(String),
    Key(String),
    Position(usize),
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(action_of(action)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The template with the fields of `value`; what is not there is `<no value>`, as in Go.
    pub(crate) fn render(&self, value: &Value) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Field(function, path) => {
                    let found = path.iter().try_fold(value, |value, name| value.get(name));
                    text.push_str(&function.apply(found));
                }
            }
        }
        text
    }
}

fn action_of(action: &str) -> Result<Part, TemplateError> {
    let unknown = || TemplateError::Action(action.to_owned());
    let (words, separator) = match action.split_once('"') {
        Some((words, rest)) => (words, rest.trim().strip_suffix('"')),
        None => (action, None),
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    let (function, field) = match (&words[..], separator) {
        ([field], None) => (Function::Plain, field),
        (["json", field], None) => (Function::Json, field),
        (["upper", field], None) => (Function::Upper, field),
        (["lower", field], None) => (Function::Lower, field),
        (["len", field], None) => (Function::Len, field),
        (["join", field], Some(separator)) => (Function::Join(separator.to_owned()), field),
        (["index", field], Some(key)) => (Function::Key(key.to_owned()), field),
        (["index", field, position], None) => {
            let position = position.parse().map_err(|_| unknown())?;
            (Function::Position(position), field)
        }
        _ => return Err(unknown()),
    };
    let path = field.strip_prefix('.').ok_or_else(unknown)?;
    let path: Vec<String> = match path {
        "" => Vec::new(),
        path => path.split('.').map(str::to_owned).collect(),
    };
    let is_name = |name: &String| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match path.iter().all(is_name) {
        true => Ok(Part::Field(function, path)),
        false => Err(unknown()),
    }
}

impl Function {
    fn apply(&self, value: Option<&Value>) -> String {
        let Some(value) = value else {
            return "<no value>".to_owned();
        };
        match self {
            Self::Plain => plain(value),
            Self::Json => value.to_string(),
            Self::Upper => plain(value).to_uppercase(),
            Self::Lower => plain(value).to_lowercase(),
            Self::Len => match value {
                Value::Array(list) => list.len().to_string(),
                Value::Object(map) => map.len().to_string(),
                other => plain(other).len().to_string(),
            },
            Self::Join(separator) => match value {
                Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(separator),
                other => plain(other),
            },
            // Of a map without the key Go prints the empty value.
            Self::Key(key) => value.get(key).map(plain).unwrap_or_default(),
            Self::Position(position) => value
                .get(position)
                .map_or_else(|| "<no value>".to_owned(), plain),
        }
    }
}

/// As Go prints a value: lists in brackets, maps as `map[key:value]`.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| format!("{key}:{}", plain(value));
            format!(
                "map[{}]",
                map.iter().map(pair).collect::<Vec<_>>().join(" ")
            )
        }
        other => other.to_string(),
    }
}

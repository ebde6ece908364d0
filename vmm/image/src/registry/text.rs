//! Makes text from a peer fit for a terminal: bounded, and with everything a terminal would act on escaped.

/// `text` with control, format and other unprintable characters escaped, white space folded to one blank, and
/// cut after `limit` characters.
#[must_use]
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    let mut left = limit;
    for character in text
        .split_whitespace()
        .flat_map(|word| word.chars().chain(std::iter::once(' ')))
    {
        if left == 0 {
            shown.push('…');
            return shown;
        }
        left -= 1;
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    if shown.ends_with(' ') {
        shown.pop();
    }
    shown
}

/// What the body of a refusal says: the distribution-spec's error list, plain text, or that it is a web page.
#[must_use]
pub(crate) fn refusal(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    /// Token servers answer like this (OAuth 2, RFC 6749 §5.2) or with `details`.
    #[derive(serde::Deserialize)]
    struct Token {
        #[serde(alias = "details", alias = "error", alias = "message")]
        error_description: String,
    }
    if let Ok(list) = serde_json::from_slice::<Body>(body)
        && !list.errors.is_empty()
    {
        let texts: Vec<String> = list
            .errors
            .iter()
            .take(3)
            .map(
                |entry| match (entry.code.as_str(), entry.message.as_str()) {
                    ("", message) => printable(message, 200),
                    (code, "") => printable(code, 60),
                    (code, message) => {
                        format!("{}: {}", printable(code, 60), printable(message, 200))
                    }
                },
            )
            .collect();
        return texts.join("; ");
    }
    if let Ok(token) = serde_json::from_slice::<Token>(body) {
        return printable(&token.error_description, 200);
    }
    let text = String::from_utf8_lossy(body);
    let start = text.trim_start().get(..1).unwrap_or_default();
    match start {
        "" => "no reason given".to_owned(),
        "<" => "an HTML page, not an answer of a registry".to_owned(),
        _ => printable(&text, 200),
    }
}

#[cfg(test)]
mod tests;

//! The whole run, to be saved from the page.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::record::Run;

/// A link that holds the run's lines of JSON.
pub(super) fn link(run: &Run) -> Markup {
    let lines = run.to_json_lines();
    html! {
        a #download .download download="run.jsonl" href=(format!("data:application/jsonl;charset=utf-8,{}", percent(&lines))) {
            "download this run as lines of JSON"
        }
    }
}

/// Escapes what a link cannot hold; most of a run is digits, which it can.
fn percent(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 3 / 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:,/()[]".contains(&byte) {
            escaped.push(byte.into());
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> String {
        let mut parts = text.split('%');
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend(&part.as_bytes()[2..]);
        }
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            prop_assert_eq!(decode(&percent(&text)), text);
        }
    }
}

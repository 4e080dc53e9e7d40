//! Tells Rust code from its comments and literals: enough to look for words, far less than a parser.

/// The source with every comment and every string or character literal blanked out; lines and columns (in
/// characters) stay.
pub(super) fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (length, is_code) = match literal_or_comment(rest, code.chars().next_back()) {
            Some(length) => (length, false),
            None => (first.len_utf8(), true),
        };
        let (token, after) = rest.split_at(length);
        if is_code {
            code.push_str(token);
        } else {
            code.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    code
}

/// Byte length of the comment or literal at the start of `rest`, if there is one.
fn literal_or_comment(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(string(rest, 1));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    let starts_word = !before.is_some_and(is_word);
    if starts_word && rest.starts_with(['b', 'c', 'r']) { prefixed_literal(rest) } else { None }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// A string whose opening quote ends at `start`.
fn string(rest: &str, start: usize) -> usize {
    let mut escaped = false;
    for (at, c) in rest[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return start + at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal, or nothing where the quote begins a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut inside = rest[1..].char_indices();
    let (_, first) = inside.next()?;
    if first == '\\' {
        let (_, _escaped) = inside.next()?;
        return inside.find(|&(_, c)| c == '\'').map(|(at, _)| at + 2);
    }
    let (at, second) = inside.next()?;
    (second == '\'').then_some(at + 2)
}

/// `b"…"`, `c"…"`, `b'…'`, `r"…"`, `r#"…"#`, `br#"…"#` and so on; raw identifiers (`r#type`) are none.
fn prefixed_literal(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|&length| length <= 2)?;
    let after = &rest[prefix..];
    if rest[..prefix].ends_with('r') {
        let hashes = after.find(|c| c != '#')?;
        let body = after[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let body_length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix + hashes + 1 + body_length);
    }
    if after.starts_with('"') {
        return Some(string(rest, prefix + 1));
    }
    if after.starts_with('\'') { character(after).map(|length| prefix + length) } else { None }
}

/// Byte positions of a whole word, or of a path such as `env::var` or `env::`, in code.
pub(super) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let ends_open = !word.ends_with(is_word);
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(|c| is_word(c) || c == '\'') && (ends_open || !after.is_some_and(is_word))
    })
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Line number, from 1, of a byte position.
pub(super) fn line(text: &str, position: usize) -> usize {
    text[..position].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(source: &str) -> String {
        code(source).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_vanish_and_lines_stay() {
        assert_eq!(blanked("a // unsafe\nb /* unsafe /* nested */ unsafe */ c"), "a b c");
        assert_eq!(code("a /* x\ny */ b").matches('\n').count(), 1);
        assert_eq!(code("// ünsafe\nb").chars().count(), "// ünsafe\nb".chars().count());
    }

    #[test]
    fn literals_vanish() {
        assert_eq!(blanked(r#"f("unsafe \" unsafe", x)"#), "f( , x)");
        assert_eq!(blanked(r###"f(r#"a " unsafe"#, br"\", b"\"", c"x")"###), "f( , , , )");
        assert_eq!(blanked(r"f('\'', '{', b'\\', '\u{1F600}', '→')"), "f( , , , , )");
        assert_eq!(blanked("f(\"not // a comment\"); g()"), "f( ); g()");
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        assert_eq!(blanked("fn f<'a>(x: &'a str, r#type: &'static u8) {}"), {
            "fn f<'a>(x: &'a str, r#type: &'static u8) {}"
        });
        assert_eq!(blanked("number\"x\""), "number");
    }

    #[test]
    fn unfinished_literals_end_with_the_file() {
        for source in ["\"abc", "/* abc", "r#\"abc", "'"] {
            assert_eq!(code(source).chars().count(), source.chars().count(), "{source}");
        }
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(words("unsafe unsafe_code my_unsafe {unsafe}", "unsafe").collect::<Vec<_>>(), [0, 30]);
        assert_eq!(words("&'static str; static X", "static").collect::<Vec<_>>(), [14]);
        assert_eq!(words("cpu::f(); gpu_cpu::f()", "cpu::").collect::<Vec<_>>(), [0]);
        assert_eq!(line("a\nb\nc", 4), 3);
    }
}

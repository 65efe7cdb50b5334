//! Text for a terminal that has ASCII alone, and lines that fit it.

/// `text` in ASCII: what a disk or a server calls itself can neither move the cursor nor need a font.
pub fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | ' '..='~' => plain.push(char),
            '\u{2026}' => plain.push_str("..."),
            '\u{2018}' | '\u{2019}' => plain.push('\''),
            '\u{201c}' | '\u{201d}' => plain.push('"'),
            '\u{2013}' | '\u{2014}' => plain.push('-'),
            '\t' => plain.push(' '),
            _ => plain.push('?'),
        }
    }
    plain
}

/// `text` in lines of at most `width`, parted at blanks; a longer word is cut. Later lines begin where the first does.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let indent = text.len() - text.trim_start_matches(' ').len();
    let indent = " ".repeat(indent.min(width / 2));
    let mut lines = Vec::new();
    let mut rest = text.to_owned();
    while rest.len() > width {
        let blank = rest[..=width].rfind(' ').filter(|at| *at > indent.len());
        let tail = rest.split_off(blank.unwrap_or(width));
        lines.push(rest.trim_end().to_owned());
        rest = format!("{indent}{}", tail.trim_start());
    }
    lines.push(rest);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_whole_where_they_fit_and_indents_are_kept() {
        assert_eq!(wrap("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn nothing_but_ascii_is_left() {
        assert_eq!(ascii("a\u{2026}\x1b[2J\u{e9}\n"), "a...?[2J?\n");
    }
}

//! The log machine is written once, as futures. Whoever never waits pays for a state machine at every call that way, in code, in stack and in
//! panics that can never happen: [`macro@blocking`] makes plain functions of the same lines (docs/decisions/0004-log-machine.md).

use proc_macro::{Group, TokenStream, TokenTree};

/// Leaves the item as it is written.
#[proc_macro_attribute]
pub fn waiting(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}

/// Takes every `async` and `.await` out of the item.
#[proc_macro_attribute]
pub fn blocking(_: TokenStream, item: TokenStream) -> TokenStream {
    without_waiting(item)
}

fn without_waiting(tokens: TokenStream) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut kept = Vec::new();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word.to_string() == "async" => {}
            TokenTree::Punct(dot)
                if dot.as_char() == '.' && tokens.peek().is_some_and(is_await) =>
            {
                tokens.next();
            }
            TokenTree::Group(group) => {
                let mut inside = Group::new(group.delimiter(), without_waiting(group.stream()));
                inside.set_span(group.span());
                kept.push(TokenTree::Group(inside));
            }
            other => kept.push(other),
        }
    }
    kept.into_iter().collect()
}

fn is_await(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(word) if word.to_string() == "await")
}

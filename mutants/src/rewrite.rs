//! Puts mutants into a source file: beside each expression that is changed stands what it is changed to, and a number chooses.
//!
//! ```text
//! a < b        →   if sedge_core::mutants::is(17) { a <= b } else { a < b }
//! fn f() -> u32 { body }   →   fn f() -> u32 { if sedge_core::mutants::is(18) { return 0; } body }
//! ```

use anyhow::{Context, Result};
use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, BinOp, Block, Expr, ExprBinary, ExprMethodCall, ExprUnary, ImplItemFn, Item, ItemFn,
    ItemImpl, ItemMod, Pat, ReturnType, Signature, Stmt, TraitItemFn, Type, UnOp, parse_quote,
};

/// One change.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    pub(crate) id: u32,
    /// Path in the repository.
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) function: String,
    /// What is put in place of what.
    pub(crate) change: String,
}

/// The source with mutants whose numbers begin at `first_id`; those for which `is_wanted` is false are left out.
pub(crate) fn rewrite(
    file: &str,
    source: &str,
    first_id: u32,
    is_wanted: &dyn Fn(u32) -> bool,
) -> Result<(String, Vec<Mutant>)> {
    let mut tree = syn::parse_file(source).with_context(|| file.to_owned())?;
    let krate = if file.starts_with("core-nostd/") {
        "crate"
    } else {
        "sedge_core"
    };
    let mut rewriter = Rewriter {
        file,
        krate: syn::parse_str(krate)?,
        next: first_id,
        is_wanted,
        functions: Vec::new(),
        constant: 0,
        mutants: Vec::new(),
    };
    rewriter.visit_file_mut(&mut tree);
    Ok((prettyplease::unparse(&tree), rewriter.mutants))
}

struct Rewriter<'a> {
    file: &'a str,
    krate: syn::Path,
    next: u32,
    is_wanted: &'a dyn Fn(u32) -> bool,
    /// Where we are, outermost first.
    functions: Vec<String>,
    /// Within code that is computed when it is compiled.
    constant: u32,
    mutants: Vec<Mutant>,
}

impl Rewriter<'_> {
    /// A number for a change here; `None` if it is left out.
    fn number(&mut self, span: Span, change: String) -> Option<u32> {
        let id = self.next;
        self.next += 1;
        if !(self.is_wanted)(id) {
            return None;
        }
        self.mutants.push(Mutant {
            id,
            file: self.file.to_owned(),
            line: span.start().line,
            function: self.functions.join("::"),
            change,
        });
        Some(id)
    }

    fn is_open(&self) -> bool {
        !self.functions.is_empty() && self.constant == 0
    }

    /// `otherwise`, or `instead` in the mutant.
    fn choose(&mut self, span: Span, change: String, instead: &Expr, otherwise: Expr) -> Expr {
        match self.number(span, change) {
            Some(id) => {
                let krate = &self.krate;
                parse_quote!((if #krate::mutants::is(#id) { #instead } else { #otherwise }))
            }
            None => otherwise,
        }
    }

    fn function(
        &mut self,
        signature: &Signature,
        block: &mut Block,
        visit: impl FnOnce(&mut Self, &mut Block),
    ) {
        self.functions.push(signature.ident.to_string());
        let is_constant = signature.constness.is_some();
        self.constant += u32::from(is_constant);
        visit(self, block);
        if !is_constant && self.constant == 0 && !block.stmts.is_empty() {
            let before = block.clone();
            for value in values(&signature.output).into_iter().rev() {
                if says_only(&before, &value) {
                    self.next += 1;
                    continue;
                }
                let change = format!("body → {}", value.to_token_stream());
                if let Some(id) = self.number(signature.ident.span(), change) {
                    let krate = &self.krate;
                    let stmt: Stmt = parse_quote!(if #krate::mutants::is(#id) { return #value; });
                    block.stmts.insert(0, stmt);
                }
            }
        }
        self.constant -= u32::from(is_constant);
        self.functions.pop();
    }
}

impl VisitMut for Rewriter<'_> {
    fn visit_item_mut(&mut self, item: &mut Item) {
        match item {
            // Names of generic constants and values of statics are no code that runs.
            Item::Const(_)
            | Item::Static(_)
            | Item::Enum(_)
            | Item::Struct(_)
            | Item::Type(_)
            | Item::Macro(_) => {}
            item => visit_mut::visit_item_mut(self, item),
        }
    }

    fn visit_item_mod_mut(&mut self, module: &mut ItemMod) {
        if !is_test(&module.attrs) {
            visit_mut::visit_item_mod_mut(self, module);
        }
    }

    fn visit_item_impl_mut(&mut self, item: &mut ItemImpl) {
        let is_telling = item.trait_.as_ref().is_some_and(|(_, path, _)| {
            let last = path
                .segments
                .last()
                .map(|segment| segment.ident.to_string());
            matches!(
                last.as_deref(),
                Some("Debug" | "Display" | "Format" | "Error")
            )
        });
        if is_test(&item.attrs) || is_telling {
            return;
        }
        let of = item.self_ty.to_token_stream().to_string().replace(' ', "");
        self.functions.push(of);
        let depth = self.constant;
        visit_mut::visit_item_impl_mut(self, item);
        self.constant = depth;
        self.functions.pop();
    }

    fn visit_impl_item_const_mut(&mut self, _: &mut syn::ImplItemConst) {}

    fn visit_trait_item_const_mut(&mut self, _: &mut syn::TraitItemConst) {}

    fn visit_item_fn_mut(&mut self, item: &mut ItemFn) {
        if is_test(&item.attrs) {
            return;
        }
        let signature = item.sig.clone();
        self.function(&signature, &mut item.block, |this, block| {
            this.visit_block_mut(block)
        });
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut ImplItemFn) {
        if is_test(&item.attrs) {
            return;
        }
        let signature = item.sig.clone();
        self.function(&signature, &mut item.block, |this, block| {
            this.visit_block_mut(block)
        });
    }

    fn visit_trait_item_fn_mut(&mut self, item: &mut TraitItemFn) {
        let signature = item.sig.clone();
        if let Some(block) = &mut item.default {
            self.function(&signature, block, |this, block| this.visit_block_mut(block));
        }
    }

    // Lengths and other constants in types.
    fn visit_type_mut(&mut self, _: &mut Type) {}
    fn visit_pat_mut(&mut self, _: &mut Pat) {}
    fn visit_generic_argument_mut(&mut self, _: &mut syn::GenericArgument) {}

    fn visit_expr_repeat_mut(&mut self, repeat: &mut syn::ExprRepeat) {
        self.visit_expr_mut(&mut repeat.expr);
    }

    fn visit_expr_const_mut(&mut self, _: &mut syn::ExprConst) {}

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        let before = expr.clone();
        visit_mut::visit_expr_mut(self, expr);
        if !self.is_open() {
            return;
        }
        let changes = match &before {
            Expr::Binary(binary) if !has_let(&binary.left) && !has_let(&binary.right) => {
                binary_changes(binary)
            }
            Expr::Unary(unary) => unary_changes(unary),
            Expr::MethodCall(call) => call_changes(call),
            _ => Vec::new(),
        };
        for (change, instead) in changes {
            let taken = std::mem::replace(expr, Expr::Verbatim(TokenStream::new()));
            *expr = self.choose(before.span(), change, &instead, taken);
        }
    }
}

/// Operators that are easily mistaken for each other.
fn binary_changes(binary: &ExprBinary) -> Vec<(String, Expr)> {
    let instead: &[BinOp] = &match binary.op {
        BinOp::Eq(_) => vec![parse_quote!(!=)],
        BinOp::Ne(_) => vec![parse_quote!(==)],
        BinOp::Lt(_) => vec![parse_quote!(<=), parse_quote!(>)],
        BinOp::Le(_) => vec![parse_quote!(<), parse_quote!(>)],
        BinOp::Gt(_) => vec![parse_quote!(>=), parse_quote!(<)],
        BinOp::Ge(_) => vec![parse_quote!(>), parse_quote!(<)],
        BinOp::And(_) => vec![parse_quote!(||)],
        BinOp::Or(_) => vec![parse_quote!(&&)],
        BinOp::Add(_) => vec![parse_quote!(-)],
        BinOp::Sub(_) => vec![parse_quote!(+)],
        BinOp::Mul(_) => vec![parse_quote!(+)],
        BinOp::Div(_) | BinOp::Rem(_) => vec![parse_quote!(*)],
        BinOp::BitAnd(_) => vec![parse_quote!(|)],
        BinOp::BitOr(_) => vec![parse_quote!(&)],
        BinOp::AddAssign(_) => vec![parse_quote!(-=)],
        BinOp::SubAssign(_) => vec![parse_quote!(+=)],
        BinOp::BitAndAssign(_) => vec![parse_quote!(|=)],
        BinOp::BitOrAssign(_) => vec![parse_quote!(&=)],
        _ => Vec::new(),
    };
    let change = |op: &BinOp| {
        let changed = ExprBinary {
            op: *op,
            ..binary.clone()
        };
        let told = format!("{} → {}", binary.op.to_token_stream(), op.to_token_stream());
        (told, Expr::Binary(changed))
    };
    instead.iter().map(change).collect()
}

fn unary_changes(unary: &ExprUnary) -> Vec<(String, Expr)> {
    match unary.op {
        UnOp::Not(_) if !has_let(&unary.expr) => {
            vec![("! → nothing".into(), (*unary.expr).clone())]
        }
        _ => Vec::new(),
    }
}

/// Methods that are easily mistaken for each other.
fn call_changes(call: &ExprMethodCall) -> Vec<(String, Expr)> {
    const PAIRS: [(&str, &str); 7] = [
        ("min", "max"),
        ("saturating_add", "saturating_sub"),
        ("wrapping_add", "wrapping_sub"),
        ("is_some", "is_none"),
        ("is_ok", "is_err"),
        ("all", "any"),
        ("is_some_and", "is_none_or"),
    ];
    let name = call.method.to_string();
    let other = PAIRS.iter().find_map(|(one, other)| match () {
        () if name == *one => Some(*other),
        () if name == *other => Some(*one),
        () => None,
    });
    let Some(other) = other else {
        return Vec::new();
    };
    let mut changed = call.clone();
    changed.method = syn::Ident::new(other, call.method.span());
    vec![(format!("{name} → {other}"), Expr::MethodCall(changed))]
}

/// What a function may return instead of what it finds out.
fn values(output: &ReturnType) -> Vec<Expr> {
    let ReturnType::Type(_, ty) = output else {
        return vec![parse_quote!(())];
    };
    let text = ty.to_token_stream().to_string().replace(' ', "");
    match text.as_str() {
        "()" => vec![parse_quote!(())],
        "bool" => vec![parse_quote!(true), parse_quote!(false)],
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => vec![parse_quote!(0), parse_quote!(1)],
        _ if text.starts_with("Option<") => vec![parse_quote!(None)],
        _ if text.starts_with("Result<(),") || text == "io::Result<()>" => {
            vec![parse_quote!(Ok(()))]
        }
        _ if text.starts_with("Result<bool,") || text == "io::Result<bool>" => {
            vec![parse_quote!(Ok(true)), parse_quote!(Ok(false))]
        }
        _ if text.starts_with("Result<Option<") => vec![parse_quote!(Ok(None))],
        _ if text.starts_with("Vec<") => vec![parse_quote!(Vec::new())],
        "Offset" => vec![parse_quote!(Offset::ZERO)],
        _ => Vec::new(),
    }
}

/// Whether that is all that the body says: to return it would change nothing.
fn says_only(body: &Block, value: &Expr) -> bool {
    match body.stmts.as_slice() {
        [Stmt::Expr(said, None)] => {
            said.to_token_stream().to_string() == value.to_token_stream().to_string()
        }
        _ => false,
    }
}

/// A chain with `let` is no expression that can stand elsewhere.
fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(paren) => has_let(&paren.expr),
        _ => false,
    }
}

/// Whether it is a test, or is not compiled in tests.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.to_token_stream().to_string().replace(' ', "");
        let is_other = text.contains("test") || text.contains("not(feature=\"std\")");
        attribute.path().is_ident("cfg") && is_other || attribute.path().is_ident("test")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(source: &str) -> (String, Vec<String>) {
        let (text, mutants) = rewrite("core-nostd/src/x.rs", source, 1, &|_| true).unwrap();
        (text, mutants.into_iter().map(|m| m.change).collect())
    }

    #[test]
    fn each_change_has_a_number_and_stands_beside_what_was_there() {
        let (text, changes) = rewritten("fn f(a: u32) -> bool { a == 3 }");
        assert_eq!(changes, ["== → !=", "body → false", "body → true"]);
        assert!(text.contains("crate::mutants::is(1u32)"), "{text}");
        assert!(text.contains("a != 3") && text.contains("a == 3"), "{text}");
    }

    #[test]
    fn what_the_compiler_computes_and_what_tests_are_stays() {
        let source = "const A: u32 = 1 + 2; const fn f() -> u32 { 1 + 2 } #[cfg(test)] mod tests { fn g() -> u32 { 1 + 2 } }";
        assert_eq!(rewritten(source).1, [""; 0]);
    }

    #[test]
    fn what_returns_nothing_else_and_what_no_test_compiles_stays() {
        let source = "fn f() -> Result<(), E> { Ok(()) } #[cfg(not(feature = \"std\"))] mod imp { fn g() -> u32 { 1 + 2 } }";
        assert_eq!(rewritten(source).1, [""; 0]);
    }

    #[test]
    fn a_chain_with_let_stays_whole_and_its_conditions_are_changed() {
        let source = "fn f(a: Option<u32>) { if let Some(b) = a && b > 3 { g(); } }";
        assert_eq!(rewritten(source).1, ["> → >=", "> → <", "body → ()"]);
    }
}

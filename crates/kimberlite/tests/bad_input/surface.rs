//! The public functions of a crate that take an argument, read from its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::{Fields, FnArg, ImplItem, Item, Signature, UseTree, Visibility};

/// One module's items, with the names of its parents.
struct Module {
    path: Vec<String>,
    items: Vec<Item>,
}

/// A crate's modules, and how its types are reached from outside.
struct Surface {
    modules: Vec<Module>,
    /// From a type's or function's own path to the one that callers write.
    reached: BTreeMap<Vec<String>, String>,
}

/// The names, as a caller writes them behind the crate's name, of the functions and methods that
/// are reachable from outside and take anything but `self`, and of tuple structs that anyone may
/// build from anything.
pub fn functions(crate_folder: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crate_folder).join("src");
    let mut modules = Vec::new();
    let text = std::fs::read_to_string(root.join("lib.rs")).expect("a crate has a lib.rs");
    load(&mut modules, &root, Vec::new(), parse(&text));
    let mut surface = Surface { modules, reached: BTreeMap::new() };
    surface.reach(&[], &[]);
    surface.functions()
}

fn parse(text: &str) -> Vec<Item> {
    syn::parse_file(text).expect("a source that compiles").items
}

fn load(modules: &mut Vec<Module>, root: &Path, path: Vec<String>, mut items: Vec<Item>) {
    for item in &mut items {
        let Item::Mod(inner) = item else { continue };
        if is_test(&inner.attrs) {
            continue;
        }
        let mut inner_path = path.clone();
        inner_path.push(inner.ident.to_string());
        let content = match inner.content.take() {
            Some((_, items)) => items,
            None => {
                let file: PathBuf = root.join(inner_path.join("/"));
                let candidates = [file.with_extension("rs"), file.join("mod.rs")];
                let found = candidates.iter().find(|f| f.exists()).expect("a module has a file");
                parse(&std::fs::read_to_string(found).expect("a module's file can be read"))
            }
        };
        load(modules, root, inner_path, content);
    }
    modules.push(Module { path, items });
}

/// Whether it exists in tests only.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| match &a.meta {
        syn::Meta::List(list) => {
            let tokens = list.tokens.to_string().replace(' ', "");
            list.path.is_ident("cfg") && (tokens == "test" || tokens.starts_with("all(test,"))
        }
        _ => false,
    })
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

impl Surface {
    fn module(&self, path: &[String]) -> Option<&Module> {
        self.modules.iter().find(|m| m.path == path)
    }

    /// Notes what the module at `own` shows to those who reach it as `shown`.
    fn reach(&mut self, own: &[String], shown: &[String]) {
        let Some(module) = self.module(own) else { return };
        let mut found: Vec<(Vec<String>, String)> = Vec::new();
        let mut inner: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        for item in &module.items {
            if let Some(name) = declared(item) {
                found.push((joined(own, &name), name));
            }
            match item {
                Item::Mod(m) if is_public(&m.vis) => {
                    let name = m.ident.to_string();
                    inner.push((joined(own, &name), joined(shown, &name)));
                }
                Item::Use(u) if is_public(&u.vis) => {
                    for mut path in leaves(&u.tree) {
                        match path.first().map(String::as_str) {
                            Some("crate") => drop(path.remove(0)),
                            _ => path.splice(0..0, own.iter().cloned()).for_each(drop),
                        }
                        match path.pop().as_deref() {
                            Some("*") => inner.push((path, shown.to_vec())),
                            Some(name) => {
                                let name = name.to_string();
                                path.push(name.clone());
                                found.push((path, name));
                            }
                            None => {}
                        }
                    }
                }
                _ => {}
            }
        }
        for (own, name) in found {
            let shown = joined(shown, &name).join("::");
            self.reached.entry(own).or_insert(shown);
        }
        for (own, shown) in inner {
            self.reach(&own, &shown);
        }
    }

    fn functions(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for module in &self.modules {
            for item in &module.items {
                match item {
                    Item::Fn(f) if is_public(&f.vis) && takes(&f.sig) && !is_test(&f.attrs) => {
                        let own = joined(&module.path, &f.sig.ident.to_string());
                        names.extend(self.reached.get(&own).cloned());
                    }
                    Item::Impl(block) if block.trait_.is_none() && !is_test(&block.attrs) => {
                        self.methods(module, block, &mut names);
                    }
                    Item::Struct(s) if is_open_tuple(s) => {
                        let own = joined(&module.path, &s.ident.to_string());
                        names.extend(self.reached.get(&own).cloned());
                    }
                    _ => {}
                }
            }
        }
        names
    }

    fn methods(&self, module: &Module, block: &syn::ItemImpl, names: &mut BTreeSet<String>) {
        let syn::Type::Path(kind) = &*block.self_ty else { return };
        let Some(last) = kind.path.segments.last() else { return };
        let Some(shown) = self.shown(module, &last.ident.to_string()) else { return };
        for item in &block.items {
            let ImplItem::Fn(f) = item else { continue };
            if is_public(&f.vis) && takes(&f.sig) && !is_test(&f.attrs) {
                names.insert(format!("{shown}::{}", f.sig.ident));
            }
        }
    }

    /// How callers write a type that `module` calls `name`: one of its own, or one that it uses.
    fn shown(&self, module: &Module, name: &str) -> Option<&String> {
        let own = joined(&module.path, name);
        let local = module.items.iter().filter_map(declared_anyhow).any(|n| n == name);
        if local {
            return self.reached.get(&own);
        }
        let used = module.items.iter().find_map(|item| match item {
            Item::Use(u) => {
                leaves(&u.tree).into_iter().find(|p| p.last().is_some_and(|l| l == name))
            }
            _ => None,
        })?;
        let mut parent = module.path.clone();
        let mut path = Vec::new();
        for part in used {
            match part.as_str() {
                "crate" => parent.clear(),
                "super" => drop(parent.pop()),
                "self" => {}
                _ => path.push(part),
            }
        }
        self.reached.get(&[parent, path].concat())
    }
}

fn joined(path: &[String], name: &str) -> Vec<String> {
    path.iter().cloned().chain([name.to_string()]).collect()
}

/// The name of a public type or function that an item declares.
fn declared(item: &Item) -> Option<String> {
    let public = match item {
        Item::Struct(i) => &i.vis,
        Item::Enum(i) => &i.vis,
        Item::Union(i) => &i.vis,
        Item::Trait(i) => &i.vis,
        Item::Fn(i) => &i.vis,
        _ => return None,
    };
    is_public(public).then(|| declared_anyhow(item)).flatten()
}

fn declared_anyhow(item: &Item) -> Option<String> {
    Some(match item {
        Item::Struct(i) => i.ident.to_string(),
        Item::Enum(i) => i.ident.to_string(),
        Item::Union(i) => i.ident.to_string(),
        Item::Trait(i) => i.ident.to_string(),
        Item::Fn(i) => i.sig.ident.to_string(),
        _ => return None,
    })
}

/// The paths that a `use` names.
fn leaves(tree: &UseTree) -> Vec<Vec<String>> {
    match tree {
        UseTree::Path(p) => leaves(&p.tree)
            .into_iter()
            .map(|rest| [&[p.ident.to_string()][..], &rest].concat())
            .collect(),
        UseTree::Name(n) => vec![vec![n.ident.to_string()]],
        UseTree::Rename(r) => vec![vec![r.ident.to_string()]],
        UseTree::Glob(_) => vec![vec!["*".into()]],
        UseTree::Group(g) => g.items.iter().flat_map(leaves).collect(),
    }
}

fn takes(signature: &Signature) -> bool {
    signature.inputs.iter().any(|input| matches!(input, FnArg::Typed(_)))
}

fn is_open_tuple(item: &syn::ItemStruct) -> bool {
    let Fields::Unnamed(fields) = &item.fields else { return false };
    is_public(&item.vis) && fields.unnamed.iter().all(|f| is_public(&f.vis))
}

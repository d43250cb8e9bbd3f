"""The documentation says what is: links lead somewhere, commands, keys, paths and names exist, nothing is left out."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.docs.generate import GENERATED, command_tree, generated_part
from tests.docs.pages import COMMENTS, PAGES, ROOT, Block, all_blocks, anchors, code, commands, links, prose

LANGUAGES = ("console", "jsonl", "python", "text", "yaml")
NEEDS_NO_TEST = "text"  # drawings
README_LINES = 200
_RECIPE_KEY = re.compile(r"([a-z_]+)((?:\.[a-z_]+)+)(?::.*)?", re.DOTALL)
_PATH = re.compile(r"(?:flows|tasks|infra|tests|docs)/[\w./-]*")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def recipe_key_names() -> frozenset[str]:
    """Every key of a recipe, sections included; a scorer's as `scorer.key`."""
    from flows.cli.recipe_keys import recipe_keys

    return frozenset(re.sub(r"^scoring\.scorers\[(\w+)\]", r"\1", key) for key, _, _ in recipe_keys())


@cache
def changeable_keys() -> frozenset[str]:
    """Every key as `--set` and `--vary` take it; a scorer's as `scoring.scorers.scorer.key`."""
    from tasks.scoring import known_scorers

    names = set(recipe_key_names())
    for key in recipe_key_names():
        if key.partition(".")[0] in known_scorers():
            names.add(f"scoring.scorers.{key}")
    return frozenset(names)


@cache
def verbs() -> dict[str, Any]:
    return dict(command_tree())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_image_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    assert [name_of(page) for page in PAGES[1:] if page not in reached] == []


def test_the_readme_is_a_page_and_not_a_book() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= README_LINES


@pytest.mark.parametrize("block", all_blocks(), ids=str)
def test_every_block_has_a_language_and_says_how_it_is_tested(block: Block) -> None:
    assert block.language in LANGUAGES
    assert set(block.comments) <= set(COMMENTS)
    if block.language == "console":
        assert len(block.comments) <= 1, "a console block is run, or one comment says why not"
        assert "transcript" in block.comments or block.text.startswith("$ "), "output without its command"
    elif block.language != NEEDS_NO_TEST:
        assert set(block.comments) <= {"file"}, "yaml, python and jsonl blocks are always tested"
    if transcript := block.comments.get("transcript"):
        assert re.search(r"^(make|longmill) .*, \d{4}-\d{2}-\d{2}, .*cores", transcript), "command, date, machine"
    if test := block.comments.get("tested by"):
        assert (ROOT / test).is_file()


@pytest.mark.parametrize("block", [block for block in all_blocks() if block.language == "console"], ids=str)
def test_every_command_exists_with_its_options_and_recipe_keys(block: Block) -> None:
    for command in commands(block):
        words = shlex.split(command.words)
        if words[0] == "make":
            target = words[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command.words
        elif words[0] == "longmill":
            check_longmill(words[1:])
        else:
            assert "tested by" in block.comments, f"{command.words}: nothing tests this command"


def check_longmill(words: list[str]) -> None:
    """Assert that the command line takes these words. Nothing is run."""
    if words[0] == "train" and verb_of(words) is None:
        words = ["train", "policy", *words[1:]]  # the verb of the group that may be left out
    name = verb_of(words)
    assert name is not None, f"longmill {' '.join(words)}: no such verb"
    arguments = words[len(name.split()) :]
    context = verbs()[name].make_context(name, list(arguments))
    for change in (*(context.params.get("changes") or ()), *(context.params.get("vary") or ())):
        assert change.partition("=")[0] in changeable_keys(), change


def verb_of(words: list[str]) -> str | None:
    """The longest name of a verb that `words` begin with."""
    for length in (3, 2, 1):
        name = " ".join(words[:length])
        if name in verbs():
            return name
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_verbs_keys_and_paths_in_the_text_exist(page: Path) -> None:
    sections = {key for key in recipe_key_names() if "." not in key}
    groups = {name.partition(" ")[0] for name in verbs()}
    for text in code(page):
        words = text.split()
        if words[0] == "longmill" and len(words) > 1:
            assert verb_of(words[1:]) or words[1] in groups, text
        key = _RECIPE_KEY.fullmatch(text)
        if key and key.group(1) in sections and not text.endswith((".jsonl", ".json", ".yaml")):
            assert key.group(1) + key.group(2) in changeable_keys(), text
        if _PATH.fullmatch(text) and not re.search(r"[A-Z]{4,}", text):
            assert (ROOT / text).exists(), text


def test_every_verb_has_help_and_is_named_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, command in verbs().items():
        assert f"`longmill {name.partition(' ')[0]}`" in readme, name
        assert command.help, name
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"


def test_every_verb_option_and_recipe_key_is_documented() -> None:
    page = (ROOT / "docs/verbs.md").read_text(encoding="utf-8")
    for name, command in verbs().items():
        _, heading, rest = page.partition(f"**`longmill {name}`**")
        assert heading, name
        entry = rest.partition("**`longmill ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert f"`{parameter.opts[0]}" in entry, f"{name} {parameter.opts[0]}"
    recipes = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    for key in recipe_key_names():
        scorer, _, own = key.partition(".")
        if scorer in sections_of_scorers():
            assert f"| `{own}` |" in recipes.partition(f"### Scorer `{scorer}`\n")[2].partition("\n### ")[0], key
        else:
            assert f"| `{key}` |" in recipes or f"### `{key}`\n" in recipes, key


@cache
def sections_of_scorers() -> frozenset[str]:
    from tasks.scoring import known_scorers

    return frozenset(known_scorers())


@pytest.mark.parametrize("name", GENERATED)
def test_parts_written_from_the_code_are_up_to_date(name: str) -> None:
    _, make = GENERATED[name]
    assert generated_part(name) == make(), "run: python -m tests.docs.generate"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_name_no_place_of_one_machine(page: Path) -> None:
    assert re.findall(r"/(?:work|home|tmp|root)/\S*", page.read_text(encoding="utf-8")) == []


def glossary() -> list[tuple[str, str, list[str]]]:
    """(word, meaning, names in the code) of every row of the glossary."""
    rows = []
    for line in prose(ROOT / "docs/glossary.md").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 3 and cells[0] != "word":
            rows.append((cells[0], cells[1], re.findall(r"`([^`]+)`", cells[2])))
    return rows


@cache
def names_in_code() -> frozenset[str]:
    """Classes, functions and module constants of the code; attributes and parameters of classes as `Class.name`."""
    names: set[str] = set()
    for room in ("flows", "tasks", "infra"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names |= defined_names(node)
                if isinstance(node, ast.ClassDef):
                    for member in node.body:
                        names |= {f"{node.name}.{name}" for name in defined_names(member)}
    return frozenset(names)


def defined_names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


@pytest.mark.medium
def test_names_of_the_glossary_are_names_of_the_code() -> None:
    rows = glossary()
    assert len(rows) > 80
    missing = []
    for word, _, names in rows:
        for name in names:
            if name not in names_in_code():
                missing.append(f"{word}: {name}")
    assert missing == []


def test_the_glossary_explains_every_word_once_and_shortly() -> None:
    words = [word for word, _, _ in glossary()]
    assert sorted(set(words)) == sorted(words)
    for word, meaning, _ in glossary():
        assert meaning.endswith("."), word
        assert len(meaning) <= 250, f"{word}: two plain sentences, not {len(meaning)} characters"

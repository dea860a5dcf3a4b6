"""The page's modules are joined to one script as a browser would load them, or refused."""

from importlib.resources import files

import pytest

from barnum.report import script as report_script
from barnum.report.script import joined

PAGE = files(report_script.__package__) / "page"


def join(**modules):
    """``main`` is the module to begin with."""
    return joined("main.js", lambda name: modules[name.removesuffix(".js")])


def test_modules_stand_behind_those_that_they_import():
    script = join(
        main='import { b } from "./b.js";\nimport { a } from "./a.js";\nuse(a, b);\n',
        a='import { c } from "./c.js";\nexport const a = c;\n',
        b='import { c } from "./c.js";\nexport const b = c;\n',
        c="export const c = 1;\n",
    )
    assert [script.count(f"// {name}.js\n") for name in ("c", "b", "a", "main")] == [1] * 4
    begins = [script.index(f"// {name}.js\n") for name in ("c", "b", "a", "main")]
    assert begins == sorted(begins)
    assert script.startswith('"use strict";\n')


def test_the_page_has_all_modules_and_is_the_same_each_time():
    def read(name):
        return (PAGE / name).read_text(encoding="utf-8")

    script = joined("main.js", read)
    assert script == joined("main.js", read)
    names = sorted(file.name for file in PAGE.iterdir() if file.name.endswith(".js"))
    assert sorted(line[3:] for line in script.splitlines() if line[3:] in names) == names


def test_names_may_stand_in_several_lines():
    script = join(
        main='import {\n  a,\n  b,\n} from "./x.js";\nf(a, b);\n',
        x="export class a {}\nexport function b() {}\n",
    )
    assert "const { a, b } = $x;" in script


@pytest.mark.parametrize(
    "line",
    [
        'import a from "./a.js";',
        'import * as a from "./a.js";',
        'import { a as b } from "./a.js";',
        'import { a } from "a";',
        'import { a } from "../a.js";',
        'import { a } from "https://example.org/a.js";',
        'import { a } from "./a.js"; f();',
        '  import { a } from "./a.js";',
        'import "./a.js";',
        'const a = await import("./a.js");',
        "const a = import.meta.url;",
        "export default 1;",
        "export { a };",
        "export let a = 1;",
        "export var a = 1;",
        "export const { a } = b;",
        "export async function a() {}",
        'export * from "./a.js";',
        'const a = "</script>";',
        "const a = '</SCRIPT ';",
        'const a = "<!-- ";',
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(line):
    text = f'// one\nimport {{ c }} from "./a.js";\n\n{line}\n'
    with pytest.raises(ValueError, match=r"main\.js:4: not understood: ") as caught:
        join(main=text, a="export const a = 1;\nexport const c = 2;\n")
    assert str(caught.value).endswith(line.strip())


def test_names_that_are_not_exported_are_refused():
    with pytest.raises(ValueError, match=r"^main\.js: a\.js does not export b$"):
        join(main='import { a, b } from "./a.js";\n', a="export const a = 1, b = 2;\n")


def test_circles_are_refused():
    a, b = (
        'import { b } from "./b.js";\nexport const a = 1;\n',
        'import { a } from "./a.js";\nexport const b = 1;\n',
    )
    with pytest.raises(ValueError, match=r"^main\.js imports a\.js imports b\.js imports a\.js: a circle"):
        join(main='import { a } from "./a.js";\n', a=a, b=b)


@pytest.mark.parametrize(
    "text",
    [
        "const a = 1;\nfunction a() {}\n",
        "export const a = 1;\nlet a;\n",
        'import { a } from "./x.js";\nclass a {}\n',
        'import { a } from "./x.js";\nimport { a } from "./x.js";\n',
        'import { a, a } from "./x.js";\n',
    ],
)
def test_a_name_is_declared_once_in_a_module(text):
    with pytest.raises(ValueError, match=r"^main\.js: a is declared twice$"):
        join(main=text, x="export const a = 1;\n")


def test_modules_may_use_the_same_names():
    one = "const same = 1;\nexport const a = same;\n"
    script = join(main='import { a } from "./x.js";\nconst same = a;\n', x=one)
    assert script.count("const same = ") == 2

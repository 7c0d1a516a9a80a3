# SPDX-License-Identifier: Apache-2.0
"""Pictures of traffic against replicas say what the simulation did: check_svg.py SCALE_SHOWN"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

PROGRAM = sys.argv.pop()
NAMES = {"arrivals": "arrivals", "one": "one's <way> & \"more\"", "two": "two"}
LEFT, WIDE, HIGH = 60, 840, 150


def svg(tag):
    return "{http://www.w3.org/2000/svg}" + tag


class Picture:
    """An SVG, and the numbers that it was made of."""

    def __init__(self, trace, title):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "picture.svg"
            said = subprocess.run([PROGRAM, trace, title, path], check=True, capture_output=True)
            self.root = xml.fromstring(path.read_bytes())
        self.numbers = json.loads(said.stdout)
        self.texts = [(one.text, float(one.get("x")), float(one.get("y")))
                      for one in self.root.iter(svg("text"))]
        self.curves = {path.findtext(svg("title")): path for path in self.root.iter(svg("path"))
                       if path.find(svg("title")) is not None}
        self.seconds = max(len(row) for row in self.numbers.values())

    def text(self, wanted):
        found = [(x, y) for text, x, y in self.texts if text == wanted]
        assert len(found) == 1, (wanted, self.texts)
        return found[0]

    def axis(self, label):
        """{number: y} of the axis below that label."""
        _, top = self.text(label)
        rows = {float(text): y - 4 for text, x, y in self.texts
                if text.isdigit() and top < y < top + HIGH + 20}
        assert len(rows) == 3, rows
        return rows

    def heights(self, name):
        """The y of each column of a curve, by its steps."""
        steps = re.findall(r"([MHV])([\d ]+)", self.curves[NAMES[name]].get("d"))
        assert steps[0][0] == "M" and steps[-1] == ("H", str(LEFT + WIDE)), steps[-1]
        x, y = map(int, steps[0][1].split())
        assert x == LEFT
        found = []
        for kind, number in steps[1:]:
            if kind == "H":
                found += [y] * (int(number) - x)
                x = int(number)
            else:
                y = int(number)
        return found

    def most(self, name, column):
        """Of the seconds that fall on a column."""
        first, last = (column + i for i in (0, 1))
        first, last = first * self.seconds // WIDE, last * self.seconds // WIDE
        return max(self.numbers[name][first:max(last, first + 1)], default=0)


class Pictures(unittest.TestCase):
    def check_curve(self, picture, name, label):
        axis = picture.axis(label)
        top, bottom = axis[max(axis)], axis[0]
        self.assertEqual(bottom - top, HIGH)
        self.assertLessEqual(max(picture.numbers[name]), max(axis))
        heights = picture.heights(name)
        self.assertEqual(len(heights), WIDE)
        for column, y in enumerate(heights):
            shown = (bottom - y) / HIGH * max(axis)
            wrong = abs(shown - picture.most(name, column))
            self.assertLessEqual(wrong, max(axis) / HIGH / 2 + 0.01, (name, column))

    def test_curves_are_the_simulations(self):
        for trace in ("spike", "sparse", "on_off"):
            with self.subTest(trace):
                picture = Picture(trace, trace)
                self.assertEqual(set(picture.curves), set(NAMES.values()))
                self.check_curve(picture, "arrivals", "requests that arrive in a second")
                for name in ("one", "two"):
                    self.check_curve(picture, name,
                                     "replicas, from the command to start them to gone")
                self.assertGreater(max(picture.numbers["two"]), 0)

    def test_axes_say_the_numbers_of_their_lines(self):
        """Also where the most of them is odd."""
        odd = 0
        for trace in ("constant", "ramp", "spike", "sparse"):
            picture = Picture(trace, trace)
            odd += max(picture.numbers["one"] + picture.numbers["two"]) % 2
            for label in ("requests that arrive in a second",
                          "replicas, from the command to start them to gone"):
                axis = picture.axis(label)
                most = max(axis)
                self.assertEqual(sorted(axis), [0, most / 2, most])
                self.assertEqual(axis[most / 2], (axis[0] + axis[most]) / 2)
        self.assertGreater(odd, 0)
        minutes = [text for text, _, _ in picture.texts if text.endswith(" min")]
        self.assertEqual(minutes[:3], ["0 min", "10 min", "20 min"])
        self.assertLess(abs(picture.text("50 min")[0] - LEFT - 3000 * WIDE / picture.seconds), 1)

    def test_each_way_has_a_legend_of_its_colour(self):
        picture = Picture("spike", "spike")
        strokes = {path.get("stroke") for path in picture.root.iter(svg("path"))
                   if path.get("stroke-width") == "3"}
        for name in ("one", "two"):
            picture.text(NAMES[name])
            self.assertIn(picture.curves[NAMES[name]].get("stroke"), strokes)

    def test_any_title_leaves_it_whole(self):
        for title, shown in [("a <b> & 'c' \"d\"",) * 2, ("São", "São"), (b"cut \xc3", "cut "),
                             ("bell\a", "bell")]:
            with self.subTest(title):
                picture = Picture("sparse", os.fsencode(title))
                picture.text(shown)


unittest.main()

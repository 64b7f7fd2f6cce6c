/** The report reader counts every test case once. */
import { expect, test } from "bun:test";
import { readJunit } from "./junit.ts";

const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="4">
  <testsuite name="a.test.ts" file="a.test.ts">
    <testsuite name="outer &lt;x&gt;" file="a.test.ts">
      <testcase name="ok" classname="outer &lt;x&gt;" time="0" file="a.test.ts" line="2" />
      <testcase name="bad &amp; ugly" classname="outer &lt;x&gt;" file="a.test.ts">
        <failure type="AssertionError" message="1 &gt; 2">at a.test.ts:2</failure>
      </testcase>
      <testcase name="later" classname="outer &lt;x&gt;" file="a.test.ts">
        <skipped message="TODO" />
      </testcase>
    </testsuite>
  </testsuite>
  <testsuite name="b.test.ts" file="/project/b.test.ts">
    <testcase name="top" classname="" file="/project/b.test.ts" />
  </testsuite>
</testsuites>`;

test("each test case is passed, failed or skipped, and named with its file", () => {
  expect(readJunit(report, "/project")).toEqual({
    passed: 2,
    failed: ["a.test.ts > outer <x> > bad & ugly"],
    skipped: ["a.test.ts > outer <x> > later"],
    files: new Set(["a.test.ts", "b.test.ts"]),
  });
});

test("an empty report has nothing", () => {
  expect(readJunit("", "/project")).toEqual({ passed: 0, failed: [], skipped: [], files: new Set() });
});

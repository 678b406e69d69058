import { compareNumbers } from "./ownership.ts";
console.log("-5 vs -5.0:", Object.is(compareNumbers("-5","-5.0"), -0), compareNumbers("-5","-5"), "-0 vs -0.0", compareNumbers("-0","-0.0"));

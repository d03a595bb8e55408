//! What is correct, wrong and unparsed, by kind of answer.

use super::{Verdict, grade};
use Verdict::{Correct, Unparsed, Wrong};

fn check(cases: &[(&str, &str, Verdict)]) {
    let failed: Vec<String> = cases
        .iter()
        .filter(|(gold, answer, expected)| grade(gold, answer) != *expected)
        .map(|(gold, answer, expected)| {
            format!("gold `{gold}`, answer `{answer}`: {:?}, not {expected:?}", grade(gold, answer))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn boxed_answers() {
    check(&[
        ("42", r"<think> 6 times 7 </think> \boxed{42}", Correct),
        ("42", r"\boxed{41} which is not 42", Wrong),
        ("42", r"<think> \boxed{42} </think> \boxed{41}", Wrong), // reasoning does not count
        ("42", r"<think> \boxed{42}", Unparsed),                  // never answered
        ("42", r"\boxed{42", Unparsed),                           // never closed, and a fragment is no answer
        ("42", r"\boxed{}", Unparsed),
        ("42", r"\boxed 42", Correct),
        ("42", r"\boxed{\boxed{42}}", Correct),
        ("42", r"\fbox{42}", Correct),
        ("42", r"\boxed{\text{42 apples}}", Correct),
        ("42", r"\boxed{x = 42}", Correct),
        ("42", r"\boxed{1 + 41 = 42}", Correct),
        ("42", r"\boxed{f(6) = 42}", Correct),
        ("42", r"\boxed{\text{Area} = 42}", Correct),
        ("42", r"\boxed{\sqrt{1764}}", Correct),
        ("42", r"\boxed{42x}", Wrong),
        ("42", r"\boxed{42 million}", Wrong),
        ("42000000", r"\boxed{42 million}", Correct),
    ]);
}

#[test]
fn several_boxes() {
    check(&[
        ("41, 42", r"\boxed{41}, and also \boxed{42}.", Correct),
        ("42", r"\boxed{41}, and also \boxed{42}.", Wrong),
        ("42", r"so \boxed{41} no, \boxed{42}", Wrong),
        ("42", r"It is \boxed{41}. In the end it is \boxed{42}.", Wrong), // conflicting
        ("42", r"It is \boxed{x = 42}. So the answer is \boxed{42}.", Correct),
        ("17", r"So \boxed{5}. Then \boxed{12}. The final answer is $17$. I hope it is correct.", Correct),
        ("12", r"So \boxed{5}. Then \boxed{12}. The final answer is $17$. I hope it is correct.", Wrong),
        ("12", r"It is \boxed{12}. The final answer is above.", Correct), // announces nothing new
        ("1/2", r"$\boxed{\frac12}$, which is $\boxed{0.5}$", Correct),
        ("(1,2), (3,4)", r"$\boxed{(3,4)}$ and $\boxed{(1,2)}$", Correct),
    ]);
}

#[test]
fn numbers() {
    check(&[
        ("0.75", r"\boxed{\frac{3}{4}}", Correct),
        ("3/4", r"\boxed{\dfrac{6}{8}}", Correct),
        (r"\frac{1}{3}", r"\boxed{0.3333}", Wrong),
        (r"\frac{1}{3}", r"\boxed{0.333333}", Correct),
        (r"\frac12", r"\boxed{.5}", Correct),
        ("-1/2", r"\boxed{\frac{-1}{2}}", Correct),
        ("5", r"\boxed{5.000}", Correct),
        ("5", r"\boxed{005}", Correct),
        ("-5", "\\boxed{\u{2212}5}", Correct),
        ("5", r"\boxed{-5}", Wrong),
        ("5", r"\boxed{5/0}", Unparsed),
        ("2,125", r"\boxed{2125}", Correct),
        ("1450000", r"\boxed{1{,}450{,}000}", Correct),
        ("14916", r"The final answer is $14 {, }916$.", Correct),
        ("14917", r"The final answer is $14 {, }916$.", Wrong),
        ("1450000", r"\boxed{1\,450\,000}", Correct),
        ("1450000", r"\boxed{1,\! 450,\! 000}", Correct),
        ("3.14", r"\boxed{3,14}", Correct), // a decimal comma
        ("3, 14", r"\boxed{3.14}", Wrong),
        ("9.25", "Total : 9,25 $ en tout", Correct),
        ("9.25", "Total : 9,52 $ en tout", Wrong),
        ("6543.21", r"\boxed{6.543,21}", Correct),
        ("6543.21", r"\boxed{65.43,21}", Wrong),
        ("0,75", r"\boxed{\frac{3}{4}}", Correct),
        ("0,75", r"\boxed{\frac{7}{5}}", Wrong),
        ("7.5", r"\boxed{\approx 7.5}", Correct),
        ("7.5", r"\boxed{= 7.5}", Correct),
        ("7.5", r"\boxed{\approx 7.6}", Wrong),
        ("3/2", r"\boxed{1\frac12}", Correct),
        ("3/2", "The answer is 1 1/2.", Correct),
        ("11/2", "The answer is 1 1/2.", Wrong),
        ("1500", r"\boxed{1.5 \times 10^{3}}", Correct),
        ("1500", "The answer is 1.5e3", Correct),
        (r"0.1\overline{6}", r"\boxed{\frac16}", Correct),
        (".0000672", r"\boxed{.0000673}", Wrong),
    ]);
}

#[test]
fn signs_and_units() {
    check(&[
        ("$18", r"\boxed{18}", Correct),
        ("18", r"\boxed{\$18.00}", Correct),
        ("-18", r"\boxed{-\$18}", Correct),
        ("50%", r"\boxed{50\%}", Correct),
        ("50", r"\boxed{50 \text{ percent}}", Correct),
        ("0.5", r"\boxed{50\%}", Correct),
        ("5", r"\boxed{50\%}", Wrong),
        ("5", r"\boxed{5\,\text{cm}}", Correct),
        ("5", r"\boxed{5 \mathrm{~m}^2}", Correct),
        ("5 cm", r"\boxed{5 \text{ centimeters}}", Correct),
        ("5 cm", r"\boxed{5 \text{ km}}", Wrong),
        ("60", r"\boxed{60^\circ}", Correct),
        ("10 km/h", r"\boxed{10km/h}", Correct),
        (r"\sin 30^\circ", r"\boxed{\frac12}", Correct),
        (r"\frac{\pi}{2}", r"\boxed{90^\circ}", Wrong),
        (r"52_8", r"\boxed{52_{8}}", Correct),
        (r"52_8", r"\boxed{52}", Correct),
        (r"52_8", r"\boxed{52_9}", Wrong),
        (r"52_8", r"\boxed{42}", Wrong),
        (r"52_8", r"\boxed{52_{\text{eight}}}", Correct),
        (r"52_8", r"\boxed{52_{\text{six}}}", Wrong),
        (r"52_8", r"\boxed{42_{10}}", Correct),
        (r"52_8", r"\boxed{52_{10}}", Wrong),
        ("7", r"$7$ million", Wrong),
        ("7000000", r"$7$ million", Correct),
    ]);
}

#[test]
fn formulas() {
    check(&[
        (r"2\sqrt{3}", r"\boxed{\sqrt{12}}", Correct),
        (r"\frac{\sqrt2}{2}", r"\boxed{\frac{1}{\sqrt 2}}", Correct),
        (r"1+\sqrt2", r"\boxed{\sqrt{3+2\sqrt2}}", Correct),
        (r"\sqrt2", r"\boxed{1.414214}", Correct),
        (r"\sqrt2", r"\boxed{1.4142}", Wrong),
        ("x+1", r"\boxed{1+x}", Correct),
        ("(x+1)(x-1)", r"\boxed{x^2-1}", Correct),
        (r"\frac{x^2-1}{x-1}", r"\boxed{x+1}", Correct),
        ("x^2-1", r"\boxed{x^2+1}", Wrong),
        (r"\sin 2x", r"\boxed{2\sin x\cos x}", Correct),
        (r"\sin 2x", r"\boxed{2\sin x}", Wrong),
        (r"2^{x+1}", r"\boxed{2 \cdot 2^x}", Correct),
        ("6-5i", r"\boxed{-5i+6}", Correct),
        ("6-5i", r"\boxed{6-5\mathrm{i}}", Correct),
        ("6-5i", r"\boxed{6+5\mathrm{i}}", Wrong),
        (r"4\mathrm{e}", r"\boxed{4}", Wrong),
        ("i^3", r"\boxed{-i}", Correct),
        (r"e^{i\pi}", r"\boxed{-1}", Correct),
        (r"\sqrt[3]{-8}", r"\boxed{-2}", Correct),
        (r"\log_2 8", r"\boxed{3}", Correct),
        (r"\log_{3} 17", r"\boxed{\log_317}", Correct),
        (r"\log_{3} 17", r"\boxed{\log_37}", Wrong),
        ("log_10 7", r"\boxed{\log 7}", Correct),
        ("2^{51}", r"\boxed{4^{51/2}}", Correct),
        ("2^{51}", r"\boxed{4^{53/2}}", Wrong),
        (r"\sqrt{15}", r"\boxed{√15}", Correct),
        (r"\sqrt{15}", "The answer is √(15).", Correct),
        (r"\sqrt{15}", r"\boxed{√1 5}", Wrong),
        (r"2^{1/3} \cdot 10^{15}", r"\boxed{1259921049894873}", Wrong), // the same to 16 digits
        (r"e^{\pi\sqrt{163}}", r"\boxed{262537412640768744}", Unparsed), // and to 30 digits
        (r"\sqrt[3]{2} \cdot \sqrt[3]{4}", r"\boxed{2}", Correct),
        (r"\binom{5}{2}", r"\boxed{10}", Correct),
        ("5!", r"\boxed{120}", Correct),
        (r"|{-3}|", r"\boxed{3}", Correct),
        (r"\frac{1}{2x}", r"\boxed{1/2x}", Correct),
        ("x_1 + 1", r"\boxed{1 + x_{1}}", Correct),
        (r"3 \pm \sqrt5", r"\boxed{3+\sqrt5, 3-\sqrt5}", Correct),
        (r"\pm 2", r"\boxed{2}", Wrong),
    ]);
}

#[test]
fn equations_and_inequalities() {
    check(&[
        ("x=5", r"\boxed{5}", Correct),
        ("x=5", r"\boxed{y=5}", Wrong),
        ("8", r"\boxed{\max = 8}", Correct),
        ("8", r"\boxed{\max = 9}", Wrong),
        ("x+2y=3", r"\boxed{2x+4y=6}", Correct),
        ("2x+y=0", r"\boxed{x+2y=0}", Wrong),
        ("2", r"\boxed{z = 1 + 1 = 2}", Correct),
        ("1/3", r"\boxed{x = \frac13 \approx 0.33}", Correct),
        ("3.14", r"\boxed{x \approx 3.14}", Correct),
        ("x=8, x=3", r"\boxed{x_1=3, x_2=8}", Correct),
        ("x=8, x=3", r"\boxed{x_1=3, x_2=9}", Wrong),
        ("a_1=8, a_2=3", r"\boxed{a_1=3, a_2=8}", Wrong),
        ("g(n)=4", r"\boxed{g(x)=4}", Correct),
        ("g(n)=4n", r"\boxed{g(x)=4n}", Wrong),
        ("x=2,x=9", "x=2orx=9", Correct),
        (r"x\equiv 5 \pmod 8", r"\boxed{x \equiv 5 \pmod{8}}", Correct),
        (r"x\equiv 5 \pmod 8", r"\boxed{x \equiv 5 \pmod{9}}", Unparsed),
        ("x<5", r"\boxed{5>x}", Correct),
        ("x<5", r"\boxed{x \le 5}", Wrong),
        ("x<5", r"\boxed{x>5}", Wrong),
        ("-2x<4", r"\boxed{x>-2}", Correct),
        ("1<x<2", r"\boxed{2>x>1}", Correct),
        ("1<x<2", r"\boxed{(1,2)}", Correct),
        ("1<x<2", r"\boxed{1<t<2}", Wrong),
        ("x>1", r"\boxed{t>1}", Wrong),
        (r"x<1 \text{ or } x>2", r"\boxed{t<1 \text{ or } t>2}", Wrong),
        ("[1,2]", r"\boxed{x \in [1,2]}", Correct),
        (r"(-\infty,3)\cup(3,\infty)", r"\boxed{x \ne 3}", Correct),
    ]);
}

#[test]
fn collections() {
    check(&[
        ("41, 42", "The answer is 41 or 42.", Correct),
        ("42", "The answer is 41 or 42.", Wrong),
        ("2, 3", r"\boxed{x=3 \text{ or } x=2}", Correct),
        ("1,-2", r"\boxed{-2, 1}", Correct),
        ("(1,2)", r"\boxed{(2,1)}", Wrong),
        ("(1,2)", r"\boxed{x=1, y=2}", Correct),
        ("x=1, y=2", r"\boxed{(1,2)}", Correct),
        ("y=2, x=1", r"\boxed{(1,2)}", Correct),
        ("x=1, y=2", r"\boxed{(2,1)}", Wrong),
        ("(1,234)", r"\boxed{1234}", Wrong),
        (r"\{1,234\}", r"\boxed{\{1234\}}", Wrong),
        ("1234", r"\boxed{(1,234)}", Wrong),
        ("(1,234)", r"\boxed{(1, 234)}", Correct),
        (r"\{1,2,3\}", r"\boxed{\{3,1,2\}}", Correct),
        (r"\{1,2,3\}", r"\boxed{\{1,2\}}", Wrong),
        ("[1,2)", r"\boxed{[1,2]}", Wrong),
        ("[1,2)", r"\boxed{\left[1, \frac{4}{2}\right)}", Correct),
        (r"[0,1]\cup[1,2]", r"\boxed{[0,2]}", Correct),
        (r"(0,1)\cup(1,2)", r"\boxed{(0,2)}", Wrong),
        (r"\mathbb{R}\setminus\{3\}", r"\boxed{(-\infty,3)\cup(3,\infty)}", Correct),
        (
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            r"\boxed{\begin{bmatrix}1&2\\3&\sqrt{16}\end{bmatrix}}",
            Correct,
        ),
        (
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            r"\boxed{\begin{bmatrix}1&2\\[4pt]3&4\end{bmatrix}}",
            Correct,
        ),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\boxed{\begin{bmatrix}1&3\\2&4\end{bmatrix}}", Wrong),
        (
            r"\begin{pmatrix}3\\4\end{pmatrix}",
            r"$\begin{pmatrix}1\\2\end{pmatrix}+2\begin{pmatrix}1\\1\end{pmatrix}$",
            Correct,
        ),
        ("p=5,q=2;p=7,q=2", r"\boxed{(7,2),(5,2)}", Correct),
    ]);
}

#[test]
fn text_answers() {
    check(&[
        ("blue", r"\boxed{\text{Blue}}", Correct),
        ("blue", r"\boxed{red}", Wrong),
        ("blue", r"\boxed{3}", Wrong),
        (r"\text{(C)}", r"\boxed{C}", Correct),
        (r"\text{(C)}", "The answer is (C).", Correct),
        (r"\text{(C)}", r"\boxed{\text{(D)}}", Wrong),
        ("C", r"\boxed{\textbf{(C)}\ 19}", Correct),
        ("19", r"\boxed{\textbf{(C)}\ 19}", Correct),
        ("D", r"\boxed{\textbf{(C)}\ 19}", Wrong),
        ("C", r"\boxed{(C)19}", Wrong), // a product
        ("C", r"\boxed{\text{(C) and (D)}}", Wrong),
        ("C", "Option C", Correct),
        ("C", "Option D", Wrong),
        ("C", "The correct option is (C).", Correct),
        ("42", r"\boxed{\text{forty-two}}", Unparsed),
        ("cat", r"\boxed{\text{cat}}", Correct),
    ]);
}

#[test]
fn golds_in_every_dress() {
    check(&[
        ("They need 6 * 7 = <<6*7=42>>42.\n#### 42", r"\boxed{42}", Correct),
        ("1 + 1\n#### 1,600", "The answer is 1600.", Correct),
        ("$42$", r"\boxed{42}", Correct),
        (r"\(42\)", r"\boxed{42}", Correct),
        (r"Hence \boxed{42}.", "42", Correct),
        (r"Hence \boxed{42", "42", Correct),
        ("", "42", Unparsed),
        ("####", "42", Unparsed),
    ]);
}

#[test]
fn plain_text_answers() {
    check(&[
        ("42", "The answer is 42.", Correct),
        ("42", "**Final answer:** 42", Correct),
        ("42", "Final answer\n\n42 apples", Correct),
        ("42", "The final answer is: $x = 42$. I used 3 steps.", Correct),
        ("42", "It takes 6 rows of 7 trees, so the answer is 6 * 7 = 42 trees", Correct),
        ("42", "Final answer: the number $n$ of trees is 42.", Correct),
        ("42", "6 rows of 7 trees make 42 trees.", Correct),
        ("42", "#### 42", Correct),
        ("42", "**42**", Correct),
        ("3.5", "She walks 3.5.", Correct),
        ("1200", "He earns $1,200 a year.", Correct),
        ("6", "She pays $5 first and $6 later", Correct),
        ("3/4", "The answer is \\(\\frac{3}{4}\\).", Correct),
        ("4", "The answer is 3/4", Wrong),
        ("-4", "The temperature is -4.", Correct),
        ("6", "It is 10 - 4", Correct),
        ("1024", "The answer is 2^10", Correct),
        ("1", "The answer is $x^2 + 1$", Wrong),
        ("3", "The answer is 3 million.", Wrong),
        ("x^2+1", "The answer is x^2 + 1.", Correct),
        ("(3,4)", "The answer is (3, 4).", Correct),
        ("1000.99", "the area is 1,000.99m²", Correct),
        ("2.5", "Total: 2,5", Correct),
        ("63", "It's 63.", Correct),
        ("62", "It's 63.", Wrong),
        ("63", "So I get 63!", Correct),
        ("63", "The answer is (approximately) 63.", Correct),
        ("63", "Answer: 63 (since 9 divides it)", Correct),
        ("9", "Answer: 63 (since 9 divides it)", Wrong),
        ("63", "Answer: 63 pencils, which the two girls shared with friends at school", Correct),
        ("720", "The answer is 6!", Wrong), // an exclamation
        ("720", "6!", Correct),
        ("1", "The polynomial is x**2 - 1", Unparsed),
        ("42", "The answer is not 42.", Unparsed),
        ("42", "The answer could be 40, 41, 42.", Unparsed),
        ("42", "The answer is either 41 or 42.", Wrong),
        ("42", "I do not know.", Unparsed),
        ("42", "", Unparsed),
    ]);
}

package protocol

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestSpecNamesEveryCodeFrameAndLimit(t *testing.T) {
	b, err := os.ReadFile("SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	spec := string(b)
	want := map[string]string{
		fmt.Sprintf("`%s`", ALPN): "the ALPN",
		fmt.Sprintf("| %d | Hello | %d KiB |", TypeHello, MaxControlPayload>>10):               "Hello",
		fmt.Sprintf("| %d | Welcome | %d KiB |", TypeWelcome, MaxWelcomePayload>>10):           "Welcome",
		fmt.Sprintf("| %d | GrantKey | %d KiB |", TypeGrantKey, MaxProofPayload>>10):           "GrantKey",
		fmt.Sprintf("| %d | TunnelStatus | %d KiB |", TypeTunnelStatus, MaxControlPayload>>10): "TunnelStatus",
		fmt.Sprintf("| %d | Drain | %d KiB |", TypeDrain, MaxControlPayload>>10):               "Drain",
		fmt.Sprintf("| %d | Ping | %d B |", TypePing, MaxPingPayload):                          "Ping",
		fmt.Sprintf("| %d | Pong | %d B |", TypePong, MaxPingPayload):                          "Pong",
		fmt.Sprintf("| %d | Proof | %d KiB |", TypeProof, MaxProofPayload>>10):                 "Proof",
		fmt.Sprintf("| %d | Ask | %d KiB |", TypeAsk, MaxAskPayload>>10):                       "Ask",
		fmt.Sprintf("| %d | Answer | %d KiB |", TypeAnswer, MaxAnswerPayload>>10):              "Answer",
		fmt.Sprintf("`%s`", ALPNEnroll):                                                        "the ALPN of enrolment",
		fmt.Sprintf("| %d | Open | %d KiB |", TypeOpen, MaxOpenPayload>>10):                    "Open",
		fmt.Sprintf("| %d | Opened | %d KiB |", TypeOpened, MaxOpenedPayload>>10):              "Opened",
	}
	for code, name := range codeNames {
		want[fmt.Sprintf("| %d | `%s` |", code, name)] = name
	}
	for row, what := range want {
		if !strings.Contains(spec, row) {
			t.Errorf("%s: SPEC.md has no %q", what, row)
		}
	}
}

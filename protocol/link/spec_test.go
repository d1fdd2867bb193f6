package link

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestSpecNumbersTheChunksAsTheyAre(t *testing.T) {
	spec, err := os.ReadFile("../SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	for number, name := range map[ChunkType]string{ChunkData: "data", ChunkEnd: "end", ChunkReset: "reset", ChunkCredit: "credit"} {
		if row := fmt.Sprintf("| %d | %s |", number, name); !strings.Contains(string(spec), row) {
			t.Errorf("SPEC.md has no %q", row)
		}
	}
}

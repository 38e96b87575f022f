// Embeddings of sequences of token ids, one line a sequence.
//
//	embed WEIGHTS ID... [/ ID...]...
//
// A slash parts one sequence from the next: embed weights.bin 101 7592 102 / 101 102
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
)

func readSequences(words []string) ([][]int32, error) {
	sequences := [][]int32{nil}
	for _, word := range words {
		if word == "/" {
			sequences = append(sequences, nil)
			continue
		}
		id, err := strconv.ParseInt(word, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("'%s' is not a token id", word)
		}
		last := &sequences[len(sequences)-1]
		*last = append(*last, int32(id))
	}
	return sequences, nil
}

func embed(arguments []string) error {
	if len(arguments) < 2 {
		return errors.New("usage: embed WEIGHTS ID... [/ ID...]...")
	}
	sequences, err := readSequences(arguments[1:])
	if err != nil {
		return err
	}
	encoder, err := LoadEncoder(arguments[0])
	if err != nil {
		return err
	}
	defer encoder.Close()
	vectors, err := encoder.Embed(sequences)
	if err != nil {
		return err
	}
	for _, vector := range vectors {
		separator := ""
		for _, value := range vector {
			fmt.Printf("%s%.9g", separator, value) // nine digits name one float32 exactly
			separator = " "
		}
		fmt.Println()
	}
	return nil
}

func main() {
	if err := embed(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

"""What the schemes over the digital link share: the budget and its link, a code for words, quantisers."""

"""Data of published papers, whose results are published too."""

# First readings of peak expiratory flow rate (l/min) in 17 subjects by the Wright and the mini Wright meter.
# Source: table of Bland & Altman, Lancet 1986;i:307-310.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_WRIGHT = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# Four judges' ratings of six targets. Source: table 2 of Shrout & Fleiss, Psychol Bull 1979;86:420-428.
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]

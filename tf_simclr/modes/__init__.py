"""The modes of the program.

train.py, evaluate.py, probe.py and predict.py each run one or two modes; read their run() first.
The other modules help them.
"""

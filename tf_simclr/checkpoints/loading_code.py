"""Code that loads each export, in Markdown, for the model card. The paths are relative to it."""

SAVED_MODEL = """
```python
import tensorflow as tf

encoder = tf.saved_model.load(".")  # the directory of this file
endpoints = encoder(images, trainable=False)  # images: float32 (n, h, w, 3) in [0, 1]
embeddings = endpoints["final_avg_pool"]
answers = encoder.signatures["serving_default"](images=pixels)  # uint8 images of any size
```

With TF Hub: `hub.KerasLayer(".", trainable=True, output_key="final_avg_pool")`. With Keras 3:
`keras.layers.TFSMLayer(".", call_endpoint="embed", call_training_endpoint="embed_in_training")`.
"""
EMBEDDING_ONLY = """
```python
import tensorflow as tf

encoder = tf.saved_model.load(".")  # the directory of this file
embeddings = encoder(images, trainable=False)  # images: float32 (n, h, w, 3) in [0, 1]
```

With TF Hub: `hub.KerasLayer(".", trainable=True)`. With Keras 3:
`keras.layers.TFSMLayer(".", call_endpoint="embed", call_training_endpoint="embed_in_training")`.
"""
KERAS = """
```python
import keras

model = keras.saving.load_model("model.keras")  # Keras 2.15 or Keras 3
embeddings = model(images)["final_avg_pool"]  # images: float32 (n, h, w, 3) in [0, 1]

# To fine-tune, add a layer for your classes to one output.
features = model.output["final_avg_pool"]
classifier = keras.Model(model.inputs, keras.layers.Dense(num_classes)(features))
```
"""
TORCH = """
```python
import torch  # pip install torch safetensors
from model import load  # model.py beside this file

network = load("model.safetensors")
with torch.no_grad():
    embeddings = network(images)["final_avg_pool"]  # images: float32 (n, 3, h, w) in [0, 1]
```
"""
ONNX = """
```python
import onnxruntime  # pip install onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
# images: float32 (n, h, w, 3) in [0, 1]
(embeddings,) = session.run(["final_avg_pool"], {"images": images})
```
"""
TFLITE = """
```python
from ai_edge_litert.interpreter import Interpreter  # pip install ai-edge-litert

answer = Interpreter("model.tflite").get_signature_runner("serving_default")
embeddings = answer(images=images)["final_avg_pool"]  # images: float32 (n, s, s, 3) in [0, 1]
```
"""

"""FastAPI with a pydantic model in and out."""

import torch
from fastapi import FastAPI
from network import load_network
from pydantic import BaseModel

network = load_network()
app = FastAPI()


class Rows(BaseModel):
    rows: list[list[float]]


class Answers(BaseModel):
    probabilities: list[float]


@app.post("/predict")
async def predict(body: Rows) -> Answers:
    with torch.inference_mode():
        return Answers(probabilities=network(torch.tensor(body.rows)).tolist())
